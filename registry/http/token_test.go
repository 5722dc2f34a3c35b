package httpregistry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestTokens(t *testing.T) {
	const read, write = "reader's secret", "writer's secret"
	r := registrytest.Signed(t, registrytest.Key(t), registrytest.NewClock().Now())
	for _, tc := range []struct {
		name                   string
		o                      httpregistry.Options
		nobody, reader, writer [2]bool // who may read, and write
	}{
		{"none", httpregistry.Options{}, [2]bool{true, true}, [2]bool{true, true}, [2]bool{true, true}},
		{"to read", httpregistry.Options{ReadToken: read}, [2]bool{}, [2]bool{true, true}, [2]bool{}},
		{"to write", httpregistry.Options{WriteToken: write}, [2]bool{true, false}, [2]bool{true, false}, [2]bool{true, true}},
		{"both", httpregistry.Options{ReadToken: read, WriteToken: write}, [2]bool{}, [2]bool{true, false}, [2]bool{true, true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			tc.o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			w := newWorld(tc.o)
			if err := w.dir.Publish(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			for authorization, may := range map[string][2]bool{
				"": tc.nobody, "Bearer": tc.nobody, "Bearer ": tc.nobody, "Bearer wrong": tc.nobody, "Basic " + write: tc.nobody, write: tc.nobody,
				"Bearer " + read[:len(read)-1]: tc.nobody, "Bearer " + read + "x": tc.nobody,
				"Bearer " + read: tc.reader, "Bearer " + write: tc.writer, "bearer " + write: tc.writer,
			} {
				path := "/v1/records/" + r.ID.String()
				for i, got := range []*httptest.ResponseRecorder{
					ask(w.h, "GET", path, nil, "Authorization", authorization),
					ask(w.h, "PUT", path, r.Marshal(), "Authorization", authorization),
				} {
					if may[i] {
						wantAnswer(t, got, 200, "")
						continue
					}
					wantAnswer(t, got, 401, "unauthorized")
					if got.Header().Get("WWW-Authenticate") == "" {
						t.Error("no WWW-Authenticate")
					}
					if s := got.Body.String(); strings.Contains(s, read) || strings.Contains(s, write) {
						t.Errorf("the answer holds a token: %s", s)
					}
				}
				if cache := ask(w.h, "GET", path, nil, "Authorization", authorization).Header().Get("Cache-Control"); may[0] &&
					strings.HasPrefix(cache, "private, ") != (tc.o.ReadToken != "") {
					t.Errorf("Cache-Control of what a token is asked for is %q", cache)
				}
				for _, path := range []string{"/v1/records", "/v1/names/ann"} {
					if got := ask(w.h, "HEAD", path, nil, "Authorization", authorization).Code; (got == 401) == may[0] {
						t.Errorf("HEAD %s of %q: %d", path, authorization, got)
					}
				}
			}
			if log.Len() > 0 {
				t.Errorf("the log has %s", log.String())
			}
		})
	}
}

func TestTokenIsNotShown(t *testing.T) {
	const secret = "hunter2hunter2"
	var log bytes.Buffer
	o := httpregistry.Options{ReadToken: secret, WriteToken: secret}
	c := &httpregistry.Client{Token: secret}
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("all", "token", c.Token, "options", o.ReadToken)
	b, err := json.Marshal(map[string]any{"token": c.Token})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		format("%v", o), format("%+v", o), format("%#v", o), format("%x", o.ReadToken), format("%d", o.ReadToken),
		format("%q", c.Token), format("%+v", &c.Token), format("%s", c.Token), c.Token.String(), c.Token.GoString(), log.String(), string(b),
	} {
		if strings.Contains(s, secret) || strings.Contains(s, format("%x", []byte(secret))) || !strings.Contains(s, "[token]") {
			t.Errorf("shows %s", s)
		}
	}
	if s := format("%v", httpregistry.Token("")); s != "" {
		t.Errorf("no token shows as %q", s)
	}
}

func format(f string, args ...any) string { return fmt.Sprintf(f, args...) }
