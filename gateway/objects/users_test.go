package objects

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
)

func TestUsersAndKeys(t *testing.T) {
	b := newBench(t, pasttest.Options{})
	s := b.store()
	b.must(nil, s.AddUser(ctx, User{Name: "ann", Admin: true, Quota: 5}))
	b.must(nil, s.AddUser(ctx, User{Name: "bob"}))
	if err := s.AddUser(ctx, User{Name: "bob"}); !errors.Is(err, ErrUserExists) {
		t.Errorf("a second bob: %v", err)
	}
	for _, bad := range []string{"", "a/b", "a b", "ä", strings.Repeat("a", nameMax+1)} {
		if err := s.AddUser(ctx, User{Name: bad}); !errors.Is(err, ErrBadName) {
			t.Errorf("user %q: %v", bad, err)
		}
	}
	drawn, err := s.AddKey(ctx, "ann", "", "")
	if err != nil || len(drawn.ID) != 20 || len(drawn.Secret) != 40 || !drawn.Admin {
		t.Errorf("drawn key %+v, %v", drawn, err)
	}
	b.must(s.AddKey(ctx, "bob", "BOBSKEY", "secret"))
	if _, err := s.AddKey(ctx, "ann", "BOBSKEY", "x"); !errors.Is(err, ErrKeyExists) {
		t.Errorf("bob's key for ann: %v", err)
	}
	if _, err := s.AddKey(ctx, "nobody", "", ""); !errors.Is(err, ErrNoSuchUser) {
		t.Errorf("nobody's key: %v", err)
	}
	if got, err := b.store().Key(ctx, "BOBSKEY"); err != nil || got != (gateway.AccessKey{ID: "BOBSKEY", Secret: "secret", User: "bob"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Key(ctx, drawn.ID); err != nil || got != drawn {
		t.Errorf("%+v, %v, want %+v", got, err, drawn)
	}
	for _, none := range []string{"", "NONE", "a/b"} {
		if _, err := s.Key(ctx, none); !errors.Is(err, gateway.ErrNoSuchAccessKey) {
			t.Errorf("key %q: %v", none, err)
		}
	}
	users, err := s.Users(ctx)
	if err != nil || len(users) != 2 || users[0].Name != "ann" || !users[0].Admin || users[0].Quota != 5 || users[1].Name != "bob" {
		t.Errorf("users %+v, %v", users, err)
	}
	keys, err := s.ListKeys(ctx, "bob")
	if err != nil || len(keys) != 1 || keys[0] != (gateway.AccessKey{ID: "BOBSKEY", User: "bob"}) {
		t.Errorf("bob's keys %+v, %v", keys, err)
	}
	b.must(nil, s.RemoveUser(ctx, "bob"))
	if _, err := s.Key(ctx, "BOBSKEY"); !errors.Is(err, gateway.ErrNoSuchAccessKey) {
		t.Errorf("a removed user's key: %v", err)
	}
	if err := s.RemoveUser(ctx, "bob"); !errors.Is(err, ErrNoSuchUser) {
		t.Errorf("remove bob again: %v", err)
	}
	b.must(nil, s.RemoveKey(ctx, drawn.ID))
	if err := s.RemoveKey(ctx, drawn.ID); !errors.Is(err, gateway.ErrNoSuchAccessKey) {
		t.Errorf("remove a key again: %v", err)
	}
}

// TestKeysOfARemovedUserStayDead has a key that was added while its user was removed, and a new user of his name.
func TestKeysOfARemovedUserStayDead(t *testing.T) {
	b := newBench(t, pasttest.Options{})
	s := b.store()
	b.must(nil, s.AddUser(ctx, User{Name: "bob"}))
	b.must(s.AddKey(ctx, "bob", "KEY", "secret"))
	key := systemRegister(keyPrefix + "KEY")
	rec := b.past.Registers()[key]
	b.must(nil, s.RemoveUser(ctx, "bob"))
	b.must(b.past.Write(ctx, key, rec))
	b.must(nil, s.AddUser(ctx, User{Name: "bob", Admin: true}))
	if got, err := b.store().Key(ctx, "KEY"); !errors.Is(err, gateway.ErrNoSuchAccessKey) {
		t.Errorf("the old bob's key is the new one's: %+v, %v", got, err)
	}
}

func TestWhatIsRemovedElsewhereIsForgottenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pasttest.Options{})
		s, other := b.store(), b.store()
		b.must(nil, s.EnsureKey(ctx, "root", true, "KEY", "secret"))
		b.must(other.Key(ctx, "KEY"))
		b.must(nil, s.RemoveKey(ctx, "KEY"))
		time.Sleep(cacheFor + time.Second)
		if _, err := other.Key(ctx, "KEY"); !errors.Is(err, gateway.ErrNoSuchAccessKey) {
			t.Errorf("a key removed elsewhere: %v", err)
		}
	})
}

func TestEnsureKeyMayBeRepeated(t *testing.T) {
	b := newBench(t, pasttest.Options{})
	s := b.store()
	for range 2 {
		b.must(nil, s.EnsureKey(ctx, "root", true, "KEY", "secret"))
	}
	if err := s.EnsureKey(ctx, "root", true, "KEY", "other"); !errors.Is(err, ErrKeyExists) {
		t.Errorf("another secret: %v", err)
	}
	if err := s.EnsureKey(ctx, "mallory", true, "KEY", "secret"); !errors.Is(err, ErrKeyExists) {
		t.Errorf("another user: %v", err)
	}
	if k, err := s.Key(ctx, "KEY"); err != nil || !k.Admin {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestSecretsAreSealedToTheirRegister moves a record to another name.
func TestSecretsAreSealedToTheirRegister(t *testing.T) {
	b := newBench(t, pasttest.Options{})
	s := b.store()
	b.must(nil, s.EnsureKey(ctx, "root", true, "KEY", "secret"))
	rec := b.past.Registers()[systemRegister(keyPrefix+"KEY")]
	if strings.Contains(string(rec.Value), "secret") {
		t.Error("the secret is in clear")
	}
	b.must(b.past.Write(ctx, systemRegister(keyPrefix+"OTHER"), past.Record{Kind: past.Live, Value: rec.Value}))
	if _, err := s.Key(ctx, "OTHER"); err == nil {
		t.Error("a record moved to another name opens")
	}
}
