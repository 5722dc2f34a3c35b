package keystore

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	passphrase = []byte("correct horse battery staple")
	quick      = &Options{WorkFactor: 1}
	replace    = &Options{WorkFactor: 1, Overwrite: true}
)

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// saved returns the path of a keystore with a new key.
func saved(t *testing.T) (string, *identity.Key) {
	t.Helper()
	path, k := filepath.Join(t.TempDir(), "key"), newKey(t)
	if err := Save(path, k, passphrase, quick); err != nil {
		t.Fatal(err)
	}
	return path, k
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// holds checks that the keystore at path has the key.
func holds(t *testing.T, path string, want *identity.Key) {
	t.Helper()
	got, err := Load(path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID() != want.ID() || !bytes.Equal(got.Seed(), want.Seed()) {
		t.Fatalf("Load returns %v, want %v", got, want)
	}
}

// onlyThere checks that the directory of path holds those names and nothing else, such as a temporary file.
func onlyThere(t *testing.T, path string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the directory holds %q, want %q", got, names)
	}
}

// wantError checks the sentinel, that the error names the file, and that it tells no secret.
func wantError(t *testing.T, err, want error, path string, k *identity.Key) {
	t.Helper()
	var ke *Error
	if !errors.Is(err, want) || !errors.As(err, &ke) || ke.Path != path {
		t.Fatalf("error is %v, want %v about %s", err, want, path)
	}
	if strings.Contains(err.Error(), string(passphrase)) || k != nil && strings.Contains(err.Error(), string(k.Seed())) {
		t.Fatal("the error tells a secret")
	}
}

func TestSaveAndLoad(t *testing.T) {
	path, k := filepath.Join(t.TempDir(), "new", "directories", "key"), newKey(t)
	if err := Save(path, k, passphrase, quick); err != nil {
		t.Fatal(err)
	}
	holds(t, path, k)
	onlyThere(t, path, "key")
	b := read(t, path)
	if !bytes.HasPrefix(b, []byte(magic)) || len(b) > 512 {
		t.Errorf("a file of %d bytes: %.100q", len(b), b)
	}
	if bytes.Contains(b, k.Seed()) || bytes.Contains(b, plaintext(k.Seed())) {
		t.Error("the seed is in the file")
	}
	if runtime.GOOS == "windows" {
		return // which has no such modes
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", p, info.Mode(), err, want)
		}
	}
}

// The default work factor is what a person gets who passes nil; it takes a second, once.
func TestDefaultWorkFactor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Save(path, newKey(t), passphrase, nil); err != nil {
		t.Fatal(err)
	}
	if line := strings.Split(string(read(t, path)), "\n")[2]; !strings.HasPrefix(line, "-> scrypt ") || !strings.HasSuffix(line, " 18") {
		t.Errorf("the recipient is %q", line)
	}
}

func TestSaveRefuses(t *testing.T) {
	k := newKey(t)
	for _, tc := range []struct {
		name       string
		passphrase []byte
		options    *Options
		want       error
	}{
		{"no passphrase", nil, quick, ErrNoPassphrase},
		{"negative work factor", passphrase, &Options{WorkFactor: -1}, ErrWorkFactor},
		{"excessive work factor", passphrase, &Options{WorkFactor: MaxWorkFactor + 1}, ErrWorkFactor},
	} {
		path := filepath.Join(t.TempDir(), "key")
		wantError(t, Save(path, k, tc.passphrase, tc.options), tc.want, path, k)
		onlyThere(t, path)
	}
	path, old := saved(t)
	wantError(t, Save(path, k, nil, replace), ErrNoPassphrase, path, k)
	dangling := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nothing", dangling); err != nil {
		t.Fatal(err)
	}
	for _, impossible := range []string{
		filepath.Join(path, "key"),                 // below a file
		filepath.Join(dangling, "key"),             // below a link that leads nowhere
		path + strings.Repeat("x", 255-len("key")), // leaves no room for a temporary name
	} {
		var pe *fs.PathError
		if err := Save(impossible, k, passphrase, quick); !errors.As(err, &pe) {
			t.Errorf("Save at %s: %v", impossible, err)
		}
	}
	holds(t, path, old)
	onlyThere(t, path, "key")
}

func TestSaveDoesNotOverwrite(t *testing.T) {
	path, old := saved(t)
	next := newKey(t)
	wantError(t, Save(path, next, passphrase, quick), ErrExists, path, next)
	holds(t, path, old)
	if err := Save(path, next, passphrase, replace); err != nil {
		t.Fatal(err)
	}
	holds(t, path, next)
	onlyThere(t, path, "key")
	// To overwrite what is not there is to save it.
	path = filepath.Join(t.TempDir(), "key")
	if err := Save(path, next, passphrase, replace); err != nil {
		t.Fatal(err)
	}
	holds(t, path, next)
}

func TestSaveFollowsNoLink(t *testing.T) {
	dir, k := t.TempDir(), newKey(t)
	target, path, dangling := filepath.Join(dir, "a-precious"), filepath.Join(dir, "b-link"), filepath.Join(dir, "c-dangling")
	write(t, target, []byte("precious"))
	for link, to := range map[string]string{path: target, dangling: filepath.Join(dir, "nothing")} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		for _, o := range []*Options{quick, replace} {
			wantError(t, Save(link, k, passphrase, o), ErrExists, link, k)
		}
	}
	wantError(t, Save(dir, k, passphrase, replace), ErrExists, dir, k)
	if _, err := LoadOrCreate(dangling, passphrase, quick); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadOrCreate at a dangling link: %v", err)
	}
	if string(read(t, target)) != "precious" {
		t.Error("the target was overwritten")
	}
	onlyThere(t, path, "a-precious", "b-link", "c-dangling")
}

// Whoever loads while another saves has the old key or the new one, never a part.
func TestOverwriteIsAtomic(t *testing.T) {
	path, first := saved(t)
	keys := map[identity.ID]bool{first.ID(): true}
	var next []*identity.Key
	for range 20 {
		k := newKey(t)
		keys[k.ID()] = true
		next = append(next, k)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { // ends when all are saved
			for {
				k, err := Load(path, passphrase)
				if err != nil || !keys[k.ID()] {
					t.Errorf("Load while saving: %v, %v", k, err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for _, k := range next {
		if err := Save(path, k, passphrase, replace); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	holds(t, path, next[len(next)-1])
	onlyThere(t, path, "key")
}

// Several processes start at once: they get one key, though each asks to overwrite, which is for Save.
func TestLoadOrCreateTogether(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "key")
		ids := make([]identity.ID, 8)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() { // ends with its key
				k, err := LoadOrCreate(path, passphrase, replace)
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = k.ID()
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] || id.IsZero() {
				t.Fatalf("keys %v", ids)
			}
		}
		onlyThere(t, path, "key")
	}
}

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	created, err := LoadOrCreate(path, passphrase, quick)
	if err != nil {
		t.Fatal(err)
	}
	k, err := LoadOrCreate(path, passphrase, nil)
	if err != nil || k.ID() != created.ID() {
		t.Errorf("the next time: %v, %v", k, err)
	}
	_, err = LoadOrCreate(path, []byte("wrong"), nil)
	wantError(t, err, ErrWrongPassphrase, path, k)
	_, err = LoadOrCreate(filepath.Join(path, "below"), nil, quick)
	if err == nil {
		t.Error("LoadOrCreate below a file has no error")
	}
	path = filepath.Join(t.TempDir(), "key")
	_, err = LoadOrCreate(path, nil, quick)
	wantError(t, err, ErrNoPassphrase, path, nil)
}
