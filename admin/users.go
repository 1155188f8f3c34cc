package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"larder/gateway/objects"

	"go.uber.org/zap"
)

// User is one user of the realm.
type User struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"` // RoleAdmin or RoleUser
	Created time.Time `json:"created"`
}

// Roles of users.
const (
	RoleAdmin = "admin"
	RoleUser  = "user"
)

// NewUser asks for a user with one access key. Where AccessKey and SecretKey are empty a pair is drawn.
type NewUser struct {
	Name      string `json:"name"`
	Role      string `json:"role,omitempty"` // RoleUser unless given
	AccessKey string `json:"accessKey,omitempty"`
	SecretKey string `json:"secretKey,omitempty"`
	Quota     string `json:"quota,omitempty"` // refused: quotas are not kept yet
}

// NewKey asks for one more access key of a user.
type NewKey struct {
	User      string `json:"user"`
	AccessKey string `json:"accessKey,omitempty"`
	SecretKey string `json:"secretKey,omitempty"`
}

// Key is one access key. The secret is told once, to who made it.
type Key struct {
	User      string `json:"user"`
	Role      string `json:"role,omitempty"`
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey,omitempty"`
}

// Bucket is one bucket.
type Bucket struct {
	Name    string    `json:"name"`
	Owner   string    `json:"owner"`
	Region  string    `json:"region"`
	Created time.Time `json:"created"`
}

// Done is the answer of what has nothing to say.
type Done struct{}

// secretLeast is the length of the shortest secret that is taken, in bytes.
const secretLeast = 8

// checkPair refuses half a key pair, and a secret that is soon guessed.
func checkPair(access, secret string) error {
	switch {
	case (access == "") != (secret == ""):
		return refuse(http.StatusBadRequest, "an access key and its secret key go together: give both, or neither")
	case secret != "" && len(secret) < secretLeast:
		return refuse(http.StatusBadRequest, "the secret key has fewer than %d characters", secretLeast)
	}
	return nil
}

func (s *server) users(r *http.Request) (any, error) {
	store, err := s.store()
	if err == nil {
		err = query(r)
	}
	if err != nil {
		return nil, err
	}
	all, err := store.Users(r.Context())
	out := []User{}
	for _, u := range all {
		out = append(out, User{u.Name, roleOf(u.Admin), u.Created})
	}
	return out, err
}

func roleOf(admin bool) string {
	if admin {
		return RoleAdmin
	}
	return RoleUser
}

func (s *server) addUser(r *http.Request) (any, error) {
	var q NewUser
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	switch {
	case q.Quota != "":
		return nil, refuse(http.StatusNotImplemented, "quotas are not there yet: no user was made")
	case q.Role == "":
		q.Role = RoleUser
	case q.Role != RoleAdmin && q.Role != RoleUser:
		return nil, refuse(http.StatusBadRequest, "%q is no role: give %s or %s", q.Role, RoleAdmin, RoleUser)
	}
	if err := checkPair(q.AccessKey, q.SecretKey); err != nil {
		return nil, err
	}
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	if err := store.AddUser(r.Context(), objects.User{Name: q.Name, Admin: q.Role == RoleAdmin}); err != nil {
		return nil, err
	}
	k, err := store.AddKey(r.Context(), q.Name, q.AccessKey, q.SecretKey)
	if err != nil {
		return nil, s.undoUser(r.Context(), store, q.Name, err)
	}
	s.log.Info("user made", zap.String("user", q.Name), zap.String("role", q.Role), zap.String("accessKey", k.ID))
	return &Key{k.User, q.Role, k.ID, k.Secret}, nil
}

// undoUser takes back a user whose key could not be made, so that trying again does not meet him.
func (s *server) undoUser(ctx context.Context, store *objects.Store, name string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	if err := store.RemoveUser(ctx, name); err != nil && !errors.Is(err, objects.ErrNoSuchUser) {
		s.log.Warn("user without a key left behind", zap.String("user", name), zap.Error(err))
	}
	return cause
}

func (s *server) removeUser(r *http.Request) (any, error) {
	store, err := s.store()
	if err == nil {
		err = query(r)
	}
	if err == nil {
		err = store.RemoveUser(r.Context(), r.PathValue("name"))
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("user removed", zap.String("user", r.PathValue("name")))
	return &Done{}, nil
}

func (s *server) keys(r *http.Request) (any, error) {
	store, err := s.store()
	if err == nil {
		err = query(r, "user")
	}
	if err != nil {
		return nil, err
	}
	name := r.URL.Query().Get("user")
	all, err := store.ListKeys(r.Context(), name)
	if err != nil {
		return nil, err
	}
	out := []Key{}
	for _, k := range all {
		out = append(out, Key{User: k.User, AccessKey: k.ID})
	}
	if len(out) == 0 && name != "" {
		return out, hasUser(r.Context(), store, name)
	}
	return out, nil
}

// hasUser returns an error unless there is such a user.
func hasUser(ctx context.Context, store *objects.Store, name string) error {
	all, err := store.Users(ctx)
	if err != nil {
		return err
	}
	for _, u := range all {
		if u.Name == name {
			return nil
		}
	}
	return refuse(http.StatusNotFound, "no such user: %s", name)
}

func (s *server) addKey(r *http.Request) (any, error) {
	var q NewKey
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if err := checkPair(q.AccessKey, q.SecretKey); err != nil {
		return nil, err
	}
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	k, err := store.AddKey(r.Context(), q.User, q.AccessKey, q.SecretKey)
	if err != nil {
		return nil, err
	}
	s.log.Info("access key made", zap.String("user", k.User), zap.String("accessKey", k.ID))
	return &Key{k.User, roleOf(k.Admin), k.ID, k.Secret}, nil
}

func (s *server) removeKey(r *http.Request) (any, error) {
	store, err := s.store()
	if err == nil {
		err = query(r)
	}
	if err == nil {
		err = store.RemoveKey(r.Context(), r.PathValue("id"))
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("access key removed", zap.String("accessKey", r.PathValue("id")))
	return &Done{}, nil
}

func (s *server) buckets(r *http.Request) (any, error) {
	store, err := s.store()
	if err == nil {
		err = query(r)
	}
	if err != nil {
		return nil, err
	}
	all, err := store.Buckets(r.Context())
	out := []Bucket{}
	for _, b := range all {
		out = append(out, Bucket{b.Name, b.Owner, b.Region, b.Created})
	}
	return out, err
}
