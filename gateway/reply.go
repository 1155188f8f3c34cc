package gateway

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"

	"larder/gateway/s3xml"
)

// newID returns n random characters.
func newID(n int) string {
	b := make([]byte, (n*5+7)/8)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return base32.StdEncoding.EncodeToString(b)[:n]
}

// reply is the answer to one request: it counts, and bounds how long the client may take nothing.
type reply struct {
	http.ResponseWriter
	control  *http.ResponseController
	idle     time.Duration
	deadline time.Time // the write deadline now set
	status   int       // 0: no header written yet
	bytes    int64
	head     bool
}

func newReply(w http.ResponseWriter, r *http.Request, idle time.Duration) *reply {
	return &reply{ResponseWriter: w, control: http.NewResponseController(w), idle: idle, head: r.Method == http.MethodHead}
}

// Unwrap lets http.ResponseController through.
func (w *reply) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *reply) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *reply) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	// A deadline a quarter of its time old is moved on; not every server has deadlines (httptest's recorder).
	if now := time.Now(); w.deadline.Sub(now) < w.idle*3/4 {
		w.deadline = now.Add(w.idle)
		w.control.SetWriteDeadline(w.deadline)
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// finish takes the deadline away, so that the next request on the connection starts fresh.
func (w *reply) finish() {
	if !w.deadline.IsZero() {
		w.control.SetWriteDeadline(time.Time{})
	}
}

// document answers with an XML document.
func (q *request) document(status int, v any) error {
	b, err := s3xml.Marshal(v)
	if err != nil {
		return err
	}
	h := q.w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	q.w.WriteHeader(status)
	if !q.w.head {
		q.w.Write(b) // a client that does not take its answer has nobody to tell
	}
	return nil
}

// empty answers without a body.
func (q *request) empty(status int) error {
	if status != http.StatusNoContent && status != http.StatusNotModified {
		q.w.Header().Set("Content-Length", "0")
	}
	q.w.WriteHeader(status)
	return nil
}

// errorDocument returns the body that tells of e.
func (q *request) errorDocument(e *Error) s3xml.Error {
	doc := s3xml.Error{Code: e.Code, Message: s3xml.Text(e.text()), Resource: s3xml.Text(q.resource()), RequestID: q.id, HostID: q.g.hostID}
	for _, f := range e.Facts {
		doc.Facts = append(doc.Facts, s3xml.Fact{XMLName: xml.Name{Local: f[0]}, Value: printable(f[1])})
	}
	return doc
}

// printable drops what XML cannot hold: facts echo what the client sent.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, s)
}

// fail answers with e, if no answer was begun.
func (q *request) fail(e *Error) {
	h := q.w.Header()
	for _, name := range []string{"Content-Length", "Content-Range", "Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control", "Expires"} {
		h.Del(name)
	}
	if e.Header[0] != "" {
		h.Set(e.Header[0], e.Header[1])
	}
	if e.status() == http.StatusNotModified {
		q.w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Del("ETag")
	h.Del("Last-Modified")
	if q.w.head {
		h.Set("Content-Type", "application/xml")
		q.w.WriteHeader(e.status())
		return
	}
	if err := q.document(e.status(), q.errorDocument(e)); err != nil {
		q.w.WriteHeader(http.StatusInternalServerError)
	}
}
