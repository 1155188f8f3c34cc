package objects

import "time"

// verdict is what an audit finds of one stripe.
type verdict uint8

const (
	pending    verdict = iota // a question is open
	referenced                // a record refers to it, or its upload may still
	young                     // a record that refers to it may be on its way
	undecided                 // what would have to be known cannot be, now: never a reason to reclaim
	orphan                    // no record refers to it, and none ever will
)

// question is what has to be asked next. Their order is part of the argument (docs/notes/audit.md): of registers through which a reference
// moves, the one that it leaves is read before the one that it comes to.
type question uint8

const (
	askNothing question = iota
	askBucket           // does the claim's bucket exist
	askUpload           // may the claim's upload still want the stripe
	askHead             // does the head of the claim's object key refer to the claim's data
	askHolders          // do all who hold fragments of the block claim the same
	askFence            // write the head again as it is, so that no older proposal can be accepted
)

// fact is an answer, as far as it is known.
type fact uint8

const (
	unasked fact = iota
	unknown      // asked, and not to be known now
	yes
	no
)

// facts are what is known of a stripe and its claim.
type facts struct {
	age   time.Duration // since the youngest of its known fragments was stored
	grace time.Duration // younger ones are not judged

	bucket   fact // exists and is open; no: gone for good
	inUpload bool // the claim names an upload
	upload   fact // may still want it
	head     fact // refers to it
	holders  fact // all agree on the claim
	fenced   fact // the head was written again and still does not refer to it; no: somebody else wrote it meanwhile
}

// judge returns the verdict, or the question on which it depends next.
func (f *facts) judge() (verdict, question) {
	if f.age < f.grace {
		return young, askNothing
	}
	for _, step := range []struct {
		fact fact
		ask  question
		stop map[fact]verdict // what ends it; the rest goes on
		skip bool
	}{
		{fact: f.bucket, ask: askBucket},
		{fact: f.upload, ask: askUpload, stop: map[fact]verdict{yes: referenced}, skip: f.bucket == no || !f.inUpload},
		{fact: f.head, ask: askHead, stop: map[fact]verdict{yes: referenced}, skip: f.bucket == no},
		{fact: f.holders, ask: askHolders, stop: map[fact]verdict{no: undecided}},
		{fact: f.fenced, ask: askFence, stop: map[fact]verdict{no: undecided}, skip: f.bucket == no},
	} {
		if step.skip {
			continue
		}
		switch step.fact {
		case unasked:
			return pending, step.ask
		case unknown:
			return undecided, askNothing
		}
		if v, ok := step.stop[step.fact]; ok {
			return v, askNothing
		}
	}
	return orphan, askNothing
}
