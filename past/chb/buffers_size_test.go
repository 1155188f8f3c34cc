package chb

import (
	"testing"

	"larder/past"
	"larder/past/stripe"
)

// A buffer is as long as was asked for, is found again by its own length, and wastes little.
func TestBufferClasses(t *testing.T) {
	lengths := []int{1, bufferMin, bufferMin + 1, bufferMin + bufferMin/64 + 1, 1 << 20, stripe.SealedLen(past.StripeMax), 5<<20 + 10_000, 8<<20 + 2048, bufferLen(bufferClasses - 1)}
	var p buffers
	for _, n := range lengths {
		b := p.get(n)
		if len(*b) != n || n > bufferMin && cap(*b) > n+n*9/32 {
			t.Errorf("%d bytes in a buffer of %d", n, cap(*b))
		}
		if class := bufferClass(cap(*b)); bufferLen(class) != cap(*b) || class > 0 && bufferLen(class-1) >= n {
			t.Errorf("%d bytes: buffer of %d is of class %d", n, cap(*b), class)
		}
		p.put(b)
	}
	if b := p.get(9 << 20); len(*b) != 9<<20 {
		t.Errorf("%d bytes", len(*b))
	}
	if sealed := stripe.SealedLen(past.StripeMax); cap(*p.get(sealed)) > sealed+sealed/32 {
		t.Error("a stripe wastes memory")
	}
}
