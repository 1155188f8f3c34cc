package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"larder/auth/realm"

	"go.uber.org/zap"
)

// bootstrapUser is whose the first access key is.
const bootstrapUser = "admin"

// bootstrapMax bounds how long the first start waits for the system partition.
const bootstrapMax = time.Minute

// bootstrap makes the realm's first access key, where the realm was founded, and keeps it in DIR/credentials. It does nothing on
// later starts but make sure that the key is there.
func (p *process) bootstrap(ctx context.Context, id *realm.Identity) error {
	path := filepath.Join(p.s.data, "credentials")
	if id.RootKey == nil {
		return nil
	}
	_, err := os.Stat(path)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	access, secret := os.Getenv("LARDER_ACCESS_KEY"), os.Getenv("LARDER_SECRET_KEY")
	if access == "" || secret == "" {
		access, secret = newKeyPair()
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapMax)
	defer cancel()
	if err := p.objects.Load().EnsureKey(ctx, bootstrapUser, true, access, secret); err != nil {
		return fmt.Errorf("first access key: %w", err)
	}
	text := fmt.Sprintf("[larder]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access, secret)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	p.log.Info("first access key made", zap.String("accessKey", access), zap.String("file", path))
	fmt.Printf("larder: credentials are in %s (profile larder). For example:\n", path)
	fmt.Printf("  AWS_SHARED_CREDENTIALS_FILE=%s aws --profile larder --region %s --endpoint-url %s s3 ls\n", path, p.s.region, p.s3URL)
	return nil
}

// newKeyPair draws an access key of 20 characters and a secret of 40, in the forms of AWS.
func newKeyPair() (access, secret string) {
	var b [40]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	access = "LA" + strings.TrimRight(base32.StdEncoding.EncodeToString(b[:12]), "=")[:18]
	return access, base64.RawURLEncoding.EncodeToString(b[10:])
}

// reloading serves the certificate in the files, read again at most once a second when they have changed. One that cannot be read
// leaves the last good one in use.
func reloading(certFile, keyFile string) *tls.Config {
	var mu sync.Mutex
	var cert *tls.Certificate
	var looked, changed time.Time
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if cert != nil && time.Since(looked) < time.Second {
			return cert, nil
		}
		looked = time.Now()
		info, err := os.Stat(certFile)
		if err == nil && cert != nil && info.ModTime().Equal(changed) {
			return cert, nil
		}
		fresh, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			if cert != nil {
				return cert, nil
			}
			return nil, err
		}
		cert = &fresh
		if info != nil {
			changed = info.ModTime()
		}
		return cert, nil
	}}
}
