package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"larder/gateway/s3xml"
)

// failedCondition refuses with the name of the condition that did not hold.
func failedCondition(name string) *Error {
	return &Error{Code: "PreconditionFailed", Facts: [][2]string{{"Condition", name}}, cause: ErrPrecondition}
}

// missing refuses a condition on an object that is not there.
func missing(key string) *Error {
	return &Error{Code: "NoSuchKey", Facts: [][2]string{{"Key", key}}, cause: ErrNoSuchKey}
}

// matches says whether etag is in the list of an If-Match or If-None-Match header, which may be "*".
func matches(list, etag string) bool {
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimPrefix(strings.TrimSpace(item), "W/")
		if item == "*" || unquote(item) == etag {
			return true
		}
	}
	return false
}

// httpTime reads a header's time. Times in the future say nothing (RFC 9110 §13.1.3), and neither do malformed ones.
func httpTime(value string) (time.Time, bool) {
	t, err := http.ParseTime(value)
	return t, err == nil
}

// readCheck evaluates the conditions of GET and HEAD, or with the prefix X-Amz-Copy-Source- those on the source of a copy,
// in the precedence of RFC 9110 §13.2.2. The error is PreconditionFailed, or NotModified for a read.
func (q *request) readCheck(o Object, prefix string) error {
	h := q.r.Header
	notModified := func(name string) error {
		if prefix != "" {
			return failedCondition(name)
		}
		q.w.Header().Set("ETag", quote(o.ETag))
		q.w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
		return refuse("NotModified")
	}
	modified := o.Modified.Truncate(time.Second) // what Last-Modified tells
	if list, ok := h[prefix+"If-Match"]; ok {
		if !matches(list[0], o.ETag) {
			return failedCondition("If-Match")
		}
	} else if t, ok := httpTime(h.Get(prefix + "If-Unmodified-Since")); ok && modified.After(t) {
		return failedCondition("If-Unmodified-Since")
	}
	if list, ok := h[prefix+"If-None-Match"]; ok {
		if matches(list[0], o.ETag) {
			return notModified("If-None-Match")
		}
	} else if t, ok := httpTime(h.Get(prefix + "If-Modified-Since")); ok && !modified.After(t) && !t.After(q.g.Now()) {
		return notModified("If-Modified-Since")
	}
	return nil
}

// writeCheck returns the Check for If-Match and If-None-Match of a PUT, a copy or a Complete; nil if there is neither.
func (q *request) writeCheck() (Check, error) {
	ifMatch, hasMatch := q.r.Header["If-Match"]
	ifNone, hasNone := q.r.Header["If-None-Match"]
	switch {
	case !hasMatch && !hasNone:
		return nil, nil
	case hasMatch && hasNone:
		return nil, headerRefused("If-Match,If-None-Match", ifMatch[0]+","+ifNone[0])
	case hasNone && strings.TrimSpace(ifNone[0]) != "*":
		return nil, headerRefused("If-None-Match", ifNone[0])
	case hasNone:
		return func(cur *Object) error {
			if cur != nil {
				return failedCondition("If-None-Match")
			}
			return nil
		}, nil
	}
	key := q.key
	return func(cur *Object) error {
		switch {
		case cur == nil:
			return missing(key)
		case !matches(ifMatch[0], cur.ETag):
			return failedCondition("If-Match")
		}
		return nil
	}, nil
}

// expectation is what a conditional delete expects of the object. A nil field expects nothing.
type expectation struct {
	etag     *string
	modified *time.Time
	size     *int64
}

// deleteExpectation reads the conditions of DeleteObject.
func (q *request) deleteExpectation() (expectation, error) {
	var e expectation
	if v, ok := q.r.Header["If-Match"]; ok {
		e.etag = &v[0]
	}
	if v, ok := q.r.Header["X-Amz-If-Match-Last-Modified-Time"]; ok {
		var t s3xml.Time
		if err := t.UnmarshalText([]byte(v[0])); err != nil {
			return e, invalidArgument("x-amz-if-match-last-modified-time", v[0], "The time is malformed.")
		}
		modified := time.Time(t)
		e.modified = &modified
	}
	if v, ok := q.r.Header["X-Amz-If-Match-Size"]; ok {
		n, err := strconv.ParseInt(v[0], 10, 64)
		if err != nil || n < 0 {
			return e, invalidArgument("x-amz-if-match-size", v[0], "The size is malformed.")
		}
		e.size = &n
	}
	return e, nil
}

// check returns the Check of e; nil if it expects nothing.
func (e expectation) check(key string) Check {
	if e == (expectation{}) {
		return nil
	}
	return func(cur *Object) error {
		switch {
		case cur == nil:
			return missing(key)
		case e.etag != nil && !matches(*e.etag, cur.ETag):
			return failedCondition("If-Match")
		case e.modified != nil && !e.modified.Truncate(time.Second).Equal(cur.Modified.Truncate(time.Second)):
			return failedCondition("x-amz-if-match-last-modified-time")
		case e.size != nil && *e.size != cur.Size:
			return failedCondition("x-amz-if-match-size")
		}
		return nil
	}
}
