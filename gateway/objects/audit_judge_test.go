package objects

import (
	"testing"
	"time"
)

// TestJudge is the decision as a table: what is known, and what follows or has to be asked next.
func TestJudge(t *testing.T) {
	const grace = time.Hour
	old := facts{age: grace, grace: grace}
	in := func(f facts, change ...func(*facts)) facts {
		for _, c := range change {
			c(&f)
		}
		return f
	}
	bucket := func(v fact) func(*facts) { return func(f *facts) { f.bucket = v } }
	ofUpload := func(v fact) func(*facts) { return func(f *facts) { f.inUpload, f.upload = true, v } }
	head := func(v fact) func(*facts) { return func(f *facts) { f.head = v } }
	holders := func(v fact) func(*facts) { return func(f *facts) { f.holders = v } }
	fenced := func(v fact) func(*facts) { return func(f *facts) { f.fenced = v } }
	aged := func(age time.Duration) func(*facts) { return func(f *facts) { f.age = age } }
	for _, c := range []struct {
		what string
		f    facts
		v    verdict
		q    question
	}{
		{"young", in(old, aged(grace-1)), young, askNothing},
		{"young, whatever else", in(old, aged(grace-1), bucket(no), head(no), holders(yes), fenced(yes)), young, askNothing},
		{"from a clock that is ahead", in(old, aged(-grace)), young, askNothing},
		{"nothing known", old, pending, askBucket},
		{"bucket not to be known", in(old, bucket(unknown)), undecided, askNothing},
		{"bucket gone", in(old, bucket(no)), pending, askHolders},
		{"bucket gone, and its upload", in(old, bucket(no), ofUpload(unasked)), pending, askHolders},
		{"bucket gone, holders agree", in(old, bucket(no), holders(yes)), orphan, askNothing},
		{"bucket gone, holders do not", in(old, bucket(no), holders(no)), undecided, askNothing},
		{"bucket gone, a holder silent", in(old, bucket(no), holders(unknown)), undecided, askNothing},
		{"no upload", in(old, bucket(yes)), pending, askHead},
		{"an upload: before the head", in(old, bucket(yes), ofUpload(unasked)), pending, askUpload},
		{"upload in progress", in(old, bucket(yes), ofUpload(yes)), referenced, askNothing},
		{"upload in progress, head another's", in(old, bucket(yes), ofUpload(yes), head(no)), referenced, askNothing},
		{"upload not to be known", in(old, bucket(yes), ofUpload(unknown)), undecided, askNothing},
		{"upload ended", in(old, bucket(yes), ofUpload(no)), pending, askHead},
		{"head refers", in(old, bucket(yes), head(yes)), referenced, askNothing},
		{"head refers, upload ended", in(old, bucket(yes), ofUpload(no), head(yes)), referenced, askNothing},
		{"head not to be known", in(old, bucket(yes), head(unknown)), undecided, askNothing},
		{"head does not refer", in(old, bucket(yes), head(no)), pending, askHolders},
		{"holders do not agree", in(old, bucket(yes), head(no), holders(no)), undecided, askNothing},
		{"a holder silent", in(old, bucket(yes), head(no), holders(unknown)), undecided, askNothing},
		{"a holder has it young", in(old, bucket(yes), head(no), holders(yes), aged(grace-1)), young, askNothing},
		{"holders agree", in(old, bucket(yes), head(no), holders(yes)), pending, askFence},
		{"written meanwhile", in(old, bucket(yes), head(no), holders(yes), fenced(no)), undecided, askNothing},
		{"fence unknown", in(old, bucket(yes), head(no), holders(yes), fenced(unknown)), undecided, askNothing},
		{"fenced", in(old, bucket(yes), head(no), holders(yes), fenced(yes)), orphan, askNothing},
		{"fenced, upload ended", in(old, bucket(yes), ofUpload(no), head(no), holders(yes), fenced(yes)), orphan, askNothing},
	} {
		if v, q := c.f.judge(); v != c.v || q != c.q {
			t.Errorf("%s: verdict %d, question %d, want %d, %d", c.what, v, q, c.v, c.q)
		}
	}
}

// TestJudgeNeverGuesses tries all combinations of facts: a stripe is an orphan only if everything that counts is known and speaks for it,
// and each question is about something that is not known yet.
func TestJudgeNeverGuesses(t *testing.T) {
	all := []fact{unasked, unknown, yes, no}
	orphans := 0
	for _, b := range all {
		for _, up := range all {
			for _, h := range all {
				for _, ho := range all {
					for _, fe := range all {
						for _, inUpload := range []bool{false, true} {
							f := facts{age: 2, grace: 1, bucket: b, inUpload: inUpload, upload: up, head: h, holders: ho, fenced: fe}
							v, q := f.judge()
							alive := b == yes && (!inUpload || up == no) && h == no && ho == yes && fe == yes
							if want := alive || b == no && ho == yes; (v == orphan) != want {
								t.Errorf("%+v: verdict %d", f, v)
							}
							if v == orphan {
								orphans++
							}
							open := map[question]fact{askBucket: b, askUpload: up, askHead: h, askHolders: ho, askFence: fe}
							if (v == pending) != (q != askNothing) || q != askNothing && open[q] != unasked {
								t.Errorf("%+v: verdict %d, question %d", f, v, q)
							}
						}
					}
				}
			}
		}
	}
	if orphans == 0 {
		t.Error("no combination is an orphan")
	}
}
