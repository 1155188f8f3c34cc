package gatewaytest

import (
	"testing"

	"larder/gateway"
)

func TestMemory(t *testing.T) {
	RunBackend(t, func(*testing.T) gateway.Backend { return NewMemory() })
}
