package quicnet

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/zap"

	"larder/auth/realm"
)

// joinTimeout bounds one admission on the issuer's side.
const joinTimeout = 10 * time.Second

// reasonMax is the longest reason for a refusal that is sent, in bytes.
const reasonMax = 512

// Status of an answer to a join request.
const (
	joinGranted = 0
	joinRefused = 1
)

var errBadJoin = errors.New("malformed join message")

// JoinRefusedError is an issuer's refusal of a join request.
type JoinRefusedError struct {
	Issuer netip.AddrPort
	Reason string // the issuer's words
}

// Error names the issuer and its reason.
func (e *JoinRefusedError) Error() string {
	return fmt.Sprintf("quicnet: issuer at %s refuses: %s", e.Issuer, e.Reason)
}

// serveJoin runs one admission on its connection.
func (t *Transport) serveJoin(conn *quic.Conn) {
	remote := addrPortOf(conn.RemoteAddr())
	defer conn.CloseWithError(codeClosing, "done")
	select {
	case t.joinTokens <- struct{}{}:
		defer func() { <-t.joinTokens }()
	default:
		t.counters.joinsRefused.Add(1)
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, joinTimeout)
	defer cancel()
	s, err := conn.AcceptStream(ctx)
	if err != nil {
		return
	}
	deadline, _ := ctx.Deadline()
	s.SetDeadline(deadline)
	answer, err := t.admit(ctx, conn.ConnectionState().TLS, remote, s)
	status := byte(joinGranted)
	if err != nil {
		t.counters.joinsRefused.Add(1)
		t.log.Warn("join refused", zap.Stringer("remote", remote), zap.Error(err))
		status, answer = joinRefused, []byte(truncate(err.Error(), reasonMax))
	} else {
		t.counters.joins.Add(1)
		t.log.Info("join granted", zap.Stringer("remote", remote))
	}
	s.CancelRead(streamDone)
	if _, err := s.Write(append([]byte{status}, frameJoin(answer)...)); err != nil {
		return
	}
	if s.Close() != nil {
		return
	}
	select { // the joiner hangs up when it has the answer
	case <-conn.Context().Done():
	case <-ctx.Done():
	}
}

// admit reads the request and asks Config.Join.
func (t *Transport) admit(ctx context.Context, state tls.ConnectionState, remote netip.AddrPort, r io.Reader) ([]byte, error) {
	key, err := realm.JoinerKey(state)
	if err != nil {
		return nil, err
	}
	if !t.joins.take(time.Now()) {
		return nil, errors.New("too many join requests; try again")
	}
	request, err := readJoin(r)
	if err != nil {
		return nil, err
	}
	answer, err := t.cfg.Join(ctx, request, Joiner{Addr: remote, Key: key})
	if err == nil && len(answer) > realm.JoinMax {
		err = fmt.Errorf("answer of %d bytes", len(answer))
	}
	return answer, err
}

// Join asks each of issuers in turn for the certificates that applicant wants, until one grants them, and returns the identity
// made of the answer. It returns the last issuer's error, or *JoinRefusedError of the first issuer that refused: others of the
// same realm would not say otherwise, except those that cannot issue what was asked.
func Join(ctx context.Context, issuers []netip.AddrPort, applicant *realm.Applicant) (*realm.Identity, error) {
	err := errors.New("quicnet: join: no issuer to ask")
	var refusal error
	for _, addr := range issuers {
		var id *realm.Identity
		if id, err = joinAt(ctx, addr, applicant); err == nil {
			return id, nil
		}
		var refused *JoinRefusedError
		if errors.As(err, &refused) && refusal == nil {
			refusal = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if refusal != nil {
		return nil, refusal
	}
	return nil, err
}

// joinAt asks one issuer, from a socket of its own.
func joinAt(ctx context.Context, addr netip.AddrPort, applicant *realm.Applicant) (*realm.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	cfg, err := applicant.JoinConfig(rand.Reader, time.Now())
	if err != nil {
		return nil, err
	}
	conn, err := quic.DialAddr(ctx, net.UDPAddrFromAddrPort(addr).String(), cfg, &quic.Config{HandshakeIdleTimeout: 3 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("quicnet: join at %s: %w", addr, explain(err))
	}
	defer conn.CloseWithError(codeClosing, "done")
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("quicnet: join at %s: %w", addr, explain(err))
	}
	deadline, _ := ctx.Deadline()
	s.SetDeadline(deadline)
	if _, err := s.Write(frameJoin(applicant.Request())); err != nil {
		return nil, fmt.Errorf("quicnet: join at %s: %w", addr, explain(err))
	}
	var status [1]byte
	var answer []byte
	if _, err = io.ReadFull(s, status[:]); err == nil {
		answer, err = readJoin(s)
	}
	if err != nil {
		return nil, fmt.Errorf("quicnet: join at %s: %w", addr, explain(err))
	}
	if status[0] != joinGranted {
		return nil, &JoinRefusedError{Issuer: addr, Reason: strings.ToValidUTF8(truncate(string(answer), reasonMax), "?")}
	}
	return applicant.Accept(answer, time.Now())
}

// frameJoin puts a length before a join message.
func frameJoin(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(message)), uint32(len(message))), message...)
}

// readJoin reads what frameJoin wrote, and allocates no more than has arrived.
func readJoin(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > realm.JoinMax {
		return nil, fmt.Errorf("%w: %d bytes", errBadJoin, n)
	}
	message, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(message) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	return message, nil
}

func truncate(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
