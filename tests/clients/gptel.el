;;; gptel.el --- requests of the shape that gptel sends, from batch Emacs  -*- lexical-binding: t -*-

;; Usage: emacs --batch -Q -l gptel.el URL MODEL KEY-FILE WAY
;; WAY is curl-stream, curl or url: gptel's three ways of asking.  Prints one JSON object: the text, the reasoning,
;; the tool calls, the usage, the HTTP status, the error.
;;
;; What gptel (2026-08) does, after reading its sources: the key comes from a function and loses its trailing line
;; ends only; headers are Content-Type and Authorization; curl gets its options as arguments or as a config on standard
;; input; the answer's headers come first in curl's output (-D-), a UUID and the header size last (-w).  A
;; stream is searched for lines that start with "data:", up to "[DONE]"; a tool call starts where a function has a
;; name, and the usage is taken from the event before "[DONE]".

;;; Code:

(require 'json)
(require 'url)
(require 'subr-x)

(defconst probe-uuid "b7f3c1a09d5e4c0f")

(defun probe-key (file)
  "The key in FILE, as a key function returns it: with its line ends."
  (encode-coding-string (with-temp-buffer (insert-file-contents file) (buffer-string)) (quote utf-8)))

(defun probe-headers (file)
  "The headers that gptel sends, with the key of FILE."
  (list (cons "Content-Type" "application/json")
        (cons "Authorization" (concat "Bearer " (string-trim-right (probe-key file) "[\n\r]+")))))

(defun probe-body (model stream)
  "The request for MODEL; STREAM as in gptel: with stream_options, or false."
  (let ((body (list :model model
                    :messages (vector (list :role "system" :content "You are a large language model living in Emacs.")
                                      (list :role "user" :content "Grüße, 世界")
                                      (list :role "assistant" :content "Hallo!")
                                      (list :role "user" :content "What is the weather?"))
                    :stream (if stream t :json-false))))
    (when stream (setq body (append body '(:stream_options (:include_usage t)))))
    (append body
            (list :temperature 1.0
                  :tools (vector (list :type "function"
                                       :function (list :name "get_weather" :description "Weather of a city"
                                                       :parameters (list :type "object"
                                                                         :properties (list :city (list :type "string"))
                                                                         :required ["city"]
                                                                         :additionalProperties :json-false)
                                                       :strict t)))
                  :parallel_tool_calls t
                  :max_tokens 200))))

(defun probe-encode (value)
  "VALUE as gptel encodes it."
  (let ((json-null :null) (json-false :json-false))
    (encode-coding-string (json-serialize value :null-object :null :false-object :json-false) 'utf-8)))

(defun probe-read ()
  "The JSON value at point."
  (json-parse-buffer :object-type 'plist :array-type 'array :null-object :null :false-object :json-false))

(defun probe-text (value)
  "VALUE when it is a text that says something."
  (and (stringp value) (not (string-empty-p value)) value))

(defun probe-stream ()
  "Read the event stream after point as gptel does."
  (let (text reasoning calls usage last done)
    (while (and (not done) (re-search-forward "^data:" nil t))
      (if (looking-at " *\\[DONE\\]")
          (setq done t usage (plist-get last :usage))
        (let* ((event (setq last (probe-read)))
               (choices (plist-get event :choices))
               (delta (and (length> choices 0) (plist-get (aref choices 0) :delta)))
               (found (plist-get delta :tool_calls)))
          (when-let ((piece (probe-text (plist-get delta :content)))) (push piece text))
          (when-let ((piece (probe-text (plist-get delta :reasoning_content)))) (push piece reasoning))
          (when (length> found 0)
            (let ((function (plist-get (aref found 0) :function)))
              (if (probe-text (plist-get function :name))
                  (push (list (plist-get (aref found 0) :id) (plist-get function :name) (plist-get function :arguments))
                        calls)
                (setf (nth 2 (car calls)) (concat (nth 2 (car calls)) (plist-get function :arguments)))))))))
    (list :text (apply #'concat (nreverse text)) :reasoning (apply #'concat (nreverse reasoning))
          :calls (vconcat (mapcar #'vconcat (nreverse calls)))
          :usage (or usage :null) :done (if done t :json-false))))

(defun probe-whole ()
  "Read the whole answer after point as gptel does."
  (let* ((answer (probe-read))
         (choices (plist-get answer :choices))
         (message (and (length> choices 0) (plist-get (aref choices 0) :message)))
         (calls (plist-get message :tool_calls)))
    (list :text (or (probe-text (plist-get message :content)) "")
          :reasoning (or (probe-text (plist-get message :reasoning_content)) "")
          :calls (vconcat (mapcar (lambda (call)
                                    (let ((function (plist-get call :function)))
                                      (vector (plist-get call :id) (plist-get function :name)
                                              (plist-get function :arguments))))
                                  (and (vectorp calls) calls)))
          :usage (or (plist-get answer :usage) :null) :done :json-false
          :error (or (plist-get answer :error) :null))))

(defun probe-status ()
  "The last status line before point."
  (save-excursion
    (goto-char (point-min))
    (let (status)
      (while (re-search-forward "^HTTP/[.0-9]+ +\\([0-9]+\\)" nil t) (setq status (match-string 1)))
      (string-to-number status))))

(defun probe-curl (url file body stream)
  "Ask URL with curl: BODY and the header lines go through standard input."
  (let ((config (concat (mapconcat (lambda (header) (format "header = %S\n" (format "%s: %s" (car header) (cdr header))))
                                   (probe-headers file) "")
                        (format "url = %S\n" url)
                        (format "write-out = %S\n" (format "(%s . %%{size_header})" probe-uuid))
                        "data-binary = \"@-\"\n\n")))
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (insert config body)
      (let ((coding-system-for-read 'binary) (coding-system-for-write 'binary)
            (file-name (make-temp-file "probe")))
        ;; curl reads its config from a file here; the bytes of the request are the same.
        (with-temp-file file-name (set-buffer-multibyte nil) (insert config))
        (erase-buffer)
        (insert body)
        (call-process-region (point-min) (point-max) "curl" t t nil "--disable" "--location" "--silent" "--compressed"
                             "-XPOST" "-y7200" "-Y1" "-N" "-D-" "--config" file-name)
        (delete-file file-name))
      (set-buffer-multibyte t)
      (decode-coding-region (point-min) (point-max) 'utf-8-unix)
      (goto-char (point-max))
      (search-backward probe-uuid)
      (backward-char)
      (let* ((size (cdr (read (current-buffer)))) (status (progn (goto-char (1+ size)) (probe-status))))
        (append (list :status status)
                (if (and stream (= status 200)) (probe-stream) (probe-whole)))))))

(defun probe-url (url file body)
  "Ask URL with Emacs's own HTTP client."
  (let* ((url-request-method "POST") (url-request-extra-headers (probe-headers file)) (url-request-data body)
         (inhibit-message t))
    (with-current-buffer (url-retrieve-synchronously url t nil 30)
      (set-buffer-multibyte t)
      (let ((status (probe-status)))
        (goto-char url-http-end-of-headers)
        (append (list :status status) (probe-whole))))))

(pcase-let* ((`(,url ,model ,file ,way) command-line-args-left)
             (stream (equal way "curl-stream"))
             (body (probe-encode (probe-body model stream))))
  (setq command-line-args-left nil)
  (princ (decode-coding-string
          (json-serialize (if (equal way "url") (probe-url url file body) (probe-curl url file body stream))
                          :null-object :null :false-object :json-false)
          'utf-8)))

;;; gptel.el ends here
