package gateway

import (
	"bytes"
	"fmt"
	"testing"

	"larder/auth/sigv4"
)

// TestSigningKeys asks for more keys than are kept, again and again: each is the derived one, and the number of those kept is bounded.
func TestSigningKeys(t *testing.T) {
	var s signingKeys
	for range 2 {
		for i := range signingKeysMax + 100 {
			secret := fmt.Sprint("secret ", i/3)
			scope := sigv4.Scope{Date: fmt.Sprint(20130520 + i%3), Region: "us-east-1", Service: "s3"}
			for range 2 {
				if got := s.key(scope, secret); !bytes.Equal(got, scope.Key(secret)) {
					t.Fatalf("key %d is %x, want %x", i, got, scope.Key(secret))
				}
			}
			if len(s.keys) > signingKeysMax {
				t.Fatalf("%d keys kept", len(s.keys))
			}
		}
	}
}

// BenchmarkSigningKey is what a request pays for its signing key, derived and kept.
func BenchmarkSigningKey(b *testing.B) {
	scope := sigv4.Scope{Date: "20130524", Region: "us-east-1", Service: "s3"}
	b.Run("derived", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			scope.Key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
		}
	})
	b.Run("kept", func(b *testing.B) {
		b.ReportAllocs()
		var s signingKeys
		for range b.N {
			s.key(scope, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
		}
	})
}
