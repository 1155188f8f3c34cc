package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"larder/gateway"
	"larder/past"
)

// Errors of the administration of users.
var (
	ErrNoSuchUser = errors.New("no such user")
	ErrUserExists = errors.New("user exists")
	ErrKeyExists  = errors.New("access key exists")
	ErrBadName    = errors.New("not a valid name")
)

// User is one user of the realm.
type User struct {
	Name    string
	Admin   bool
	Quota   int64 // bytes; 0 for none
	Created time.Time
}

// user is the record "user/NAME". ID tells users of one name apart, so that the keys of one who was removed stay dead.
type user struct {
	ID      [16]byte `cbor:"1,keyasint"`
	Admin   bool     `cbor:"2,keyasint,omitempty"`
	Quota   int64    `cbor:"3,keyasint,omitempty"`
	Created int64    `cbor:"4,keyasint"`
}

// accessKey is the record "key/ACCESSKEY".
type accessKey struct {
	Secret  string   `cbor:"1,keyasint"`
	User    string   `cbor:"2,keyasint"`
	UserID  [16]byte `cbor:"3,keyasint"`
	Created int64    `cbor:"4,keyasint"`
}

const (
	userPrefix = "user/"
	keyPrefix  = "key/"
	nameMax    = 128 // bytes of a user's name or an access key
	secretMax  = 1024
)

func systemRegister(name string) past.Register {
	return past.Register{Bucket: past.SystemBucket, Space: past.SpaceHead, Key: name}
}

// validName accepts printable ASCII without space, slash and backslash.
func validName(name string) error {
	if name == "" || len(name) > nameMax || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '\\' }) {
		return fmt.Errorf("objects: %q: %w", name, ErrBadName)
	}
	return nil
}

// readSystem decodes a system record into v and reports whether it is there.
func (s *Store) readSystem(ctx context.Context, name string, v any) (bool, error) {
	rec, err := s.past.Read(ctx, systemRegister(name))
	if err != nil || !rec.Exists() {
		return false, fail("read "+name, false, err)
	}
	return true, s.open(systemRegister(name), &rec, v)
}

// create writes a system record that is not there yet; exists is what it returns otherwise.
func (s *Store) create(ctx context.Context, name string, v any, exists error) error {
	r := systemRegister(name)
	rec := past.Record{Kind: past.Live, Modified: time.Now().UnixNano(), Value: s.seal(r, v)}
	_, err := s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
		if cur.Exists() {
			return cur, refusal{fmt.Errorf("objects: %s: %w", name, exists)}
		}
		return rec, nil
	})
	return fail("create "+name, true, err)
}

// remove ends a system record; absent is what it returns if there is none.
func (s *Store) remove(ctx context.Context, name string, absent error) error {
	gone := past.Record{Kind: past.Tombstone, Modified: time.Now().UnixNano()}
	_, err := s.past.Update(ctx, systemRegister(name), func(cur past.Record) (past.Record, error) {
		if !cur.Exists() {
			return cur, refusal{fmt.Errorf("objects: %s: %w", name, absent)}
		}
		return gone, nil
	})
	return fail("remove "+name, true, err)
}

// AddUser makes a user. Errors: ErrUserExists, ErrBadName.
func (s *Store) AddUser(ctx context.Context, u User) error {
	if err := validName(u.Name); err != nil {
		return err
	}
	if u.Created.IsZero() {
		u.Created = time.Now()
	}
	return s.create(ctx, userPrefix+u.Name, &user{ID: random16(), Admin: u.Admin, Quota: u.Quota, Created: u.Created.UnixNano()}, ErrUserExists)
}

// Users returns every user, sorted by name.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	var out []User
	err := s.system(ctx, userPrefix, func(name string, rec *past.Record) error {
		var u user
		err := s.open(systemRegister(userPrefix+name), rec, &u)
		out = append(out, User{Name: name, Admin: u.Admin, Quota: u.Quota, Created: time.Unix(0, u.Created).UTC()})
		return err
	})
	return out, err
}

// RemoveUser removes a user and his access keys, which are dead at once but for what gateways remember. His buckets stay.
// Errors: ErrNoSuchUser.
func (s *Store) RemoveUser(ctx context.Context, name string) error {
	if err := s.remove(ctx, userPrefix+name, ErrNoSuchUser); err != nil {
		return err
	}
	s.users.forget(name)
	keys, err := s.ListKeys(ctx, name)
	for _, k := range keys {
		if removeErr := s.RemoveKey(ctx, k.ID); removeErr != nil && !errors.Is(removeErr, gateway.ErrNoSuchAccessKey) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

// AddKey makes an access key for a user; where id or secret are empty it draws them. Errors: ErrNoSuchUser, ErrKeyExists, ErrBadName.
func (s *Store) AddKey(ctx context.Context, userName, id, secret string) (gateway.AccessKey, error) {
	if id == "" {
		id = "LK" + rand.Text()[:18]
	}
	if secret == "" {
		secret = (rand.Text() + rand.Text())[:40]
	}
	if err := validName(id); err != nil {
		return gateway.AccessKey{}, err
	}
	if len(secret) > secretMax {
		return gateway.AccessKey{}, fmt.Errorf("objects: secret of %d bytes: %w", len(secret), ErrBadName)
	}
	var u user
	if ok, err := s.readSystem(ctx, userPrefix+userName, &u); err != nil {
		return gateway.AccessKey{}, err
	} else if !ok {
		return gateway.AccessKey{}, fmt.Errorf("objects: %s: %w", userName, ErrNoSuchUser)
	}
	k := accessKey{Secret: secret, User: userName, UserID: u.ID, Created: time.Now().UnixNano()}
	if err := s.create(ctx, keyPrefix+id, &k, ErrKeyExists); err != nil {
		return gateway.AccessKey{}, err
	}
	return gateway.AccessKey{ID: id, Secret: secret, User: userName, Admin: u.Admin}, nil
}

// ListKeys returns a user's access keys without their secrets, or everybody's if userName is empty, sorted.
func (s *Store) ListKeys(ctx context.Context, userName string) ([]gateway.AccessKey, error) {
	var out []gateway.AccessKey
	err := s.system(ctx, keyPrefix, func(id string, rec *past.Record) error {
		var k accessKey
		err := s.open(systemRegister(keyPrefix+id), rec, &k)
		if userName == "" || k.User == userName {
			out = append(out, gateway.AccessKey{ID: id, User: k.User})
		}
		return err
	})
	return out, err
}

// RemoveKey removes an access key. Errors: gateway.ErrNoSuchAccessKey.
func (s *Store) RemoveKey(ctx context.Context, id string) error {
	err := s.remove(ctx, keyPrefix+id, gateway.ErrNoSuchAccessKey)
	s.keys.forget(id)
	return err
}

// EnsureKey makes a user and an access key of his where they are missing, and leaves them where they are there: what a first
// start does, however often it is repeated. ErrKeyExists if the key is another's or has another secret.
func (s *Store) EnsureKey(ctx context.Context, userName string, admin bool, id, secret string) error {
	if err := s.AddUser(ctx, User{Name: userName, Admin: admin}); err != nil && !errors.Is(err, ErrUserExists) {
		return err
	}
	_, err := s.AddKey(ctx, userName, id, secret)
	if !errors.Is(err, ErrKeyExists) {
		return err
	}
	have, getErr := s.Key(ctx, id)
	if getErr != nil {
		return getErr
	}
	if have.User != userName || have.Secret != secret {
		return err
	}
	return nil
}

// Key implements gateway.Keyring. What was removed elsewhere may be known for Config.CacheFor.
func (s *Store) Key(ctx context.Context, id string) (gateway.AccessKey, error) {
	none := fmt.Errorf("objects: %w", gateway.ErrNoSuchAccessKey)
	if validName(id) != nil {
		return gateway.AccessKey{}, none
	}
	k, ok, err := lookup(ctx, s, &s.keys, keyPrefix, id)
	if err != nil {
		return gateway.AccessKey{}, err
	}
	if !ok {
		return gateway.AccessKey{}, none
	}
	u, ok, err := lookup(ctx, s, &s.users, userPrefix, k.User)
	if err != nil {
		return gateway.AccessKey{}, err
	}
	if !ok || u.ID != k.UserID {
		return gateway.AccessKey{}, none
	}
	return gateway.AccessKey{ID: id, Secret: k.Secret, User: k.User, Admin: u.Admin}, nil
}

// lookup reads a system record through a cache.
func lookup[T any](ctx context.Context, s *Store, c *cache[T], prefix, name string) (v T, ok bool, err error) {
	if v, ok = c.get(name); ok {
		return v, true, nil
	}
	if ok, err = s.readSystem(ctx, prefix+name, &v); err != nil || !ok {
		return v, false, err
	}
	c.put(name, v)
	return v, true, nil
}
