# Every target is a verb of ./dev; `make test-all ARGS="-k dify"` passes arguments on.
VERBS := run test test-all check bench torture record docs lock help
.PHONY: $(VERBS)
.DEFAULT_GOAL := help

$(VERBS):
	@./dev $@ $(ARGS)
