package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestGuardLetsInWhoMeansThisServer(t *testing.T) {
	local := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 9001}
	for _, c := range []struct {
		host, site, origin string
		ok                 bool
	}{
		{"127.0.0.1:9001", "", "", true},
		{"127.0.0.1", "", "", true},
		{"localhost:9001", "", "", true},
		{"LOCALHOST", "", "", true},
		{"[::1]:9001", "", "", true},
		{"[::1]", "", "", true},
		{"10.1.2.3:9001", "", "", true}, // where it arrived
		{"10.1.2.4:9001", "", "", false},
		{"evil.example:9001", "", "", false},
		{"localhost.evil.example", "", "", false},
		{"127.0.0.1.evil.example:9001", "", "", false},
		{"", "", "", false},
		{"127.0.0.1:9001", "none", "", true},
		{"127.0.0.1:9001", "same-origin", "http://127.0.0.1:9001", true},
		{"127.0.0.1:9001", "cross-site", "", false},
		{"127.0.0.1:9001", "same-site", "", false},
		{"127.0.0.1:9001", "", "http://127.0.0.1:9001", true},
		{"127.0.0.1:9001", "", "http://127.0.0.1:8080", false},
		{"127.0.0.1:9001", "", "https://evil.example", false},
		{"127.0.0.1:9001", "", "null", false},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			served := false
			h := guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
			r := httptest.NewRequest(method, "/v1/status", nil)
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
			r.Host = c.host
			for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Origin": c.origin} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if served != c.ok || !served && w.Code != http.StatusForbidden {
				t.Errorf("%s %+v: served: %v, %d %s", method, c, served, w.Code, w.Body)
			}
		}
	}
}
