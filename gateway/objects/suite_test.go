package objects

import (
	"testing"

	"larder/gateway"
	"larder/gateway/gatewaytest"
	"larder/gateway/objects/pasttest"
)

func TestBackendContract(t *testing.T) {
	gatewaytest.RunBackend(t, func(t *testing.T) gateway.Backend { return newBench(t, pasttest.Options{}).store() })
}
