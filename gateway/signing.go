package gateway

import (
	"sync"

	"larder/auth/sigv4"
)

// signingKeysMax bounds signingKeys. Eight days of presigned requests and two of others make some ten keys a user.
const signingKeysMax = 1024

// signingKeys keeps signing keys: deriving one takes four HMACs, and a client signs a day's requests with the same. They are kept by
// secret, so that a new secret of an access key has nothing of the old one's; whether an access key still exists is the Keyring's
// to say, before anybody asks here. Neither secrets nor keys are logged.
type signingKeys struct {
	mu   sync.RWMutex
	keys map[signingKey][]byte // at most signingKeysMax; all are forgotten when one more comes
}

type signingKey struct {
	secret string
	scope  sigv4.Scope
}

// key returns scope.Key(secret). The caller does not change it.
func (s *signingKeys) key(scope sigv4.Scope, secret string) []byte {
	at := signingKey{secret, scope}
	s.mu.RLock()
	key := s.keys[at]
	s.mu.RUnlock()
	if key != nil {
		return key
	}
	key = scope.Key(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil || len(s.keys) >= signingKeysMax {
		s.keys = map[signingKey][]byte{}
	}
	s.keys[at] = key
	return key
}
