"""The side-by-side benchmark: `./dev bench`. Standard library only; README.md says how it measures."""
