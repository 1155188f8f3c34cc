//go:build !unix

package quicnet

// logBuffers has nothing to ask here.
func (t *Transport) logBuffers() {}
