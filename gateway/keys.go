package gateway

import "context"

// Keyring knows the realm's access keys. past/node keeps them as records of the system partition.
type Keyring interface {
	// Key returns the secret and the user of an access key, or ErrNoSuchAccessKey.
	Key(ctx context.Context, accessKey string) (AccessKey, error)
}

// AccessKey is one pair of access key and secret, and whose it is.
type AccessKey struct {
	ID     string
	Secret string
	User   string
	Admin  bool // may do everything; other users reach the buckets they own
}
