package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"larder/pastry"

	"go.uber.org/zap"
)

// Scrub is one line of the answer to POST /v1/scrub: how far a scrub of this node is. The last line has Done set.
type Scrub struct {
	Node      pastry.NodeID `json:"node"`
	Done      bool          `json:"done"`
	Seconds   float64       `json:"seconds"`   // since the start
	ToRead    int64         `json:"toRead"`    // live fragments on this disk when it began
	Fragments int           `json:"fragments"` // read; told when done, like what follows
	Bytes     int64         `json:"bytes"`
	Corrupt   int           `json:"corrupt"`
	Mended    int           `json:"mended"`
	Rows      int           `json:"rows"` // of registers
	Error     string        `json:"error,omitempty"`
}

// scrubLine is how often a running scrub is heard of.
const scrubLine = time.Second

// scrub reads every fragment and every register row of this node's disk, now and as fast as it can, and tells how it goes, a line of
// JSON a second. It ends with the request: who goes away stops it. With ?node=ID only that node does it, since one machine's loopback
// address is another's too.
func (s *server) scrub(w http.ResponseWriter, r *http.Request) {
	self := s.Node.Overlay().Self().ID
	err := query(r, "node")
	if want := r.URL.Query().Get("node"); err == nil && want != "" && want != self.String() {
		err = refuse(http.StatusMisdirectedRequest, "this is node %v", self)
	}
	if err != nil {
		s.fail(w, err)
		return
	}
	if !s.scrubbing.TryLock() {
		s.fail(w, refuse(http.StatusConflict, "a scrub runs on this node already"))
		return
	}
	defer s.scrubbing.Unlock()
	began := s.Now()
	line := Scrub{Node: self, ToRead: s.Node.Blocks().Status().Fragments}
	w.Header().Set("Content-Type", "application/x-ndjson")
	say := func(line Scrub) {
		line.Seconds = s.Now().Sub(began).Seconds()
		if json.NewEncoder(w).Encode(&line) == nil {
			_ = http.NewResponseController(w).Flush()
		}
	}
	say(line)
	ended := make(chan Scrub, 1)
	go func() { ended <- s.runScrub(r, line) }() // awaited below
	tick := time.NewTicker(scrubLine)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			say(line)
		case line = <-ended:
			say(line)
			s.log.Info("scrub asked for ended", zap.Int("fragments", line.Fragments), zap.Int("rows", line.Rows), zap.Int("corrupt", line.Corrupt),
				zap.Int("mended", line.Mended), zap.String("error", line.Error))
			return
		}
	}
}

func (s *server) runScrub(r *http.Request, line Scrub) Scrub {
	report, err := s.Node.Blocks().Scrub(r.Context())
	line.Done, line.Fragments, line.Bytes, line.Corrupt, line.Mended = true, report.Fragments, report.Bytes, report.Corrupt, report.Mended
	if err == nil {
		line.Rows, err = s.Node.Members().Scrub(r.Context())
	}
	if err == nil {
		err = r.Context().Err()
	}
	if err != nil {
		line.Error = err.Error()
	}
	return line
}
