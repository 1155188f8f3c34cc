package node

import (
	"crypto/ed25519"
	"crypto/rand"

	"larder/auth/realm"
)

// keys gives the gateways' secrets the shape that past/pkb and gateway/objects ask for.
type keys struct{ s *realm.Secrets }

func (k keys) SystemKey() ed25519.PrivateKey          { return k.s.System }
func (k keys) systemPublic() ed25519.PublicKey        { return k.s.System.Public().(ed25519.PublicKey) }
func (k keys) MACKey() [32]byte                       { return k.s.MAC }
func (k keys) Seal(plain, ad []byte) ([]byte, error)  { return k.s.Seal(rand.Reader, plain, ad) }
func (k keys) Open(sealed, ad []byte) ([]byte, error) { return k.s.Open(sealed, ad) }

// Sealer seals object records under the realm's sealing key (gateway/objects.Sealer).
type Sealer struct{ Secrets *realm.Secrets }

// Seal panics if the system has no randomness left to give: nothing can go on without it.
func (s Sealer) Seal(plain, ad []byte) []byte {
	sealed, err := s.Secrets.Seal(rand.Reader, plain, ad)
	if err != nil {
		panic(err)
	}
	return sealed
}

// Open is the inverse of Seal.
func (s Sealer) Open(sealed, ad []byte) ([]byte, error) { return s.Secrets.Open(sealed, ad) }
