package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/splitmesh/splitmesh/identity"
)

// ageFile returns an age file of the text.
func ageFile(t testing.TB, text string, to age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func scryptTo(t testing.TB, workFactor int) age.Recipient {
	t.Helper()
	r, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(workFactor)
	return r
}

func TestLoadRefuses(t *testing.T) {
	k := newKey(t)
	good, err := encode(k, passphrase, 1)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	encrypted := func(text string) []byte { return seal(ageFile(t, text, scryptTo(t, 1))) }
	text := string(plaintext(k.Seed()))
	// The work factor stands in clear, so a hostile one is a change of two characters.
	costly := func(n string) []byte {
		return seal(bytes.Replace(good[bodyAt:], []byte(" 1\n"), []byte(" "+n+"\n"), 1))
	}
	for _, tc := range []struct {
		name string
		file []byte
		want error
	}{
		{"empty", nil, ErrCorrupt},
		{"one byte more", append(slices.Clone(good), 0), ErrCorrupt},
		{"line ends of another system", bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), ErrCorrupt},
		{"doubled", slices.Concat(good, good), ErrCorrupt},
		{"larger than 64 KiB", slices.Concat(good, make([]byte, MaxSize)), ErrCorrupt},
		{"large, of another kind", make([]byte, 2*MaxSize), ErrNotKeystore},
		{"text", []byte("hello, world\n"), ErrNotKeystore},
		{"plain age file", good[bodyAt:], ErrNotKeystore},
		{"SSH key", []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), ErrNotKeystore},
		{"checksum in upper case", slices.Concat(good[:len(magic)], bytes.ToUpper(good[len(magic):bodyAt]), good[bodyAt:]), ErrCorrupt},
		{"sealed, but no age file", seal([]byte("hello")), ErrNotKeystore},
		{"sealed, but nothing", seal(nil), ErrNotKeystore},
		{"for a public key", seal(ageFile(t, text, x25519.Recipient())), ErrNotKeystore},
		{"work factor 23", costly("23"), ErrNotKeystore},
		{"work factor 2^40", costly("1099511627776"), ErrNotKeystore},
		{"work factor 01", costly("01"), ErrNotKeystore},
		{"nothing encrypted", encrypted(""), ErrNotKeystore},
		{"something else encrypted", encrypted("my diary"), ErrNotKeystore},
		{"no line end", encrypted(text[:len(text)-1]), ErrNotKeystore},
		{"two line ends", encrypted(text + "\n"), ErrNotKeystore},
		{"much after the key", encrypted(text + strings.Repeat("x", 1000)), ErrNotKeystore},
		{"more than is ever read", encrypted(strings.Repeat("x", MaxSize)), ErrCorrupt},
		{"seed in upper case", encrypted(keyMagic + strings.Repeat("AB", 32) + "\n"), ErrNotKeystore},
		{"seed not hexadecimal", encrypted(keyMagic + strings.Repeat("xy", 32) + "\n"), ErrNotKeystore},
		{"other version inside", encrypted(strings.Replace(text, "v1", "v2", 1)), ErrNotKeystore},
		{"wrong passphrase", func() []byte {
			b, err := encode(k, []byte("another"), 1)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}(), ErrWrongPassphrase},
		{"changed and sealed anew, in the wrapped key", resealed(good, "-> scrypt", 60), ErrWrongPassphrase},
		{"changed and sealed anew, in the ciphertext", resealed(good, "\n---", 100), ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			write(t, path, tc.file)
			got, err := Load(path, passphrase)
			wantError(t, err, tc.want, path, k)
			if got != nil {
				t.Error("a key came with the error")
			}
			if len(err.Error()) > 500 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
			// LoadOrCreate does not make another key either, and the file stays.
			if _, err := LoadOrCreate(path, passphrase, replace); !errors.Is(err, tc.want) {
				t.Errorf("LoadOrCreate: %v", err)
			}
			if !bytes.Equal(read(t, path), tc.file) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestWorkIsCapped(t *testing.T) {
	for workFactor, want := range map[int]error{2: nil, 3: nil, 4: ErrNotKeystore} {
		b, err := encode(newKey(t), passphrase, workFactor)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(b, passphrase, 3); !errors.Is(err, want) {
			t.Errorf("work factor %d where 3 is the most: %v, want %v", workFactor, err, want)
		}
	}
}

// resealed changes the byte that many places after the mark, and makes the first line fit again.
func resealed(file []byte, mark string, after int) []byte {
	body := slices.Clone(file[bodyAt:])
	i := bytes.Index(body, []byte(mark)) + after
	if i < len(body)-100 && body[i] == '\n' {
		panic("the mark is misplaced")
	}
	if body[i] == 'A' { // another character of base64, wherever that matters
		body[i] = 'B'
	} else {
		body[i] = 'A'
	}
	return seal(body)
}

// Every flipped bit and every cut is damage, whatever the passphrase: never a wrong passphrase, never a key.
func TestDamage(t *testing.T) {
	good, err := encode(newKey(t), passphrase, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{passphrase, []byte("wrong")} {
		for i := range good {
			if k, err := decode(good[:i], p, MaxWorkFactor); !errors.Is(err, ErrCorrupt) || k != nil {
				t.Errorf("cut to %d bytes: %v, %v", i, k, err)
			}
			for bit := range 8 {
				b := slices.Clone(good)
				b[i] ^= 1 << bit
				if k, err := decode(b, p, MaxWorkFactor); !errors.Is(err, ErrCorrupt) || k != nil {
					t.Errorf("bit %d of byte %d flipped: %v, %v", bit, i, k, err)
				}
			}
		}
	}
}

func TestLoadWithoutPassphrase(t *testing.T) {
	path, k := saved(t)
	_, err := Load(path, nil)
	wantError(t, err, ErrNoPassphrase, path, k)
	holds(t, path, k)
}

func TestLoadNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	_, err := Load(path, passphrase)
	wantError(t, err, fs.ErrNotExist, path, nil)
	_, err = Load(t.TempDir(), passphrase)
	if !errors.Is(err, ErrNotKeystore) {
		t.Errorf("a directory: %v", err)
	}
	if runtime.GOOS != "windows" {
		if _, err := Load(os.DevNull, passphrase); !errors.Is(err, ErrNotKeystore) {
			t.Errorf("a device: %v", err)
		}
	}
}

func TestLoosePermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // where modes say nothing; see TestLooseBySystem
	}
	path, k := saved(t)
	for mode, want := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o700: true,
		0o640: false, 0o604: false, 0o620: false, 0o602: false, 0o610: false, 0o601: false, 0o644: false, 0o777: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, passphrase)
		if want && err != nil {
			t.Errorf("mode %#o: %v", mode, err)
		}
		if !want {
			wantError(t, err, ErrLoosePermissions, path, k)
			if !strings.Contains(err.Error(), fmt.Sprintf("%#o", mode)) {
				t.Errorf("%v does not name the mode", err)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("the mode became %v, %v", info.Mode(), err)
		}
	}
}

func TestLooseBySystem(t *testing.T) {
	for goos, want := range map[string]bool{"linux": true, "darwin": true, "freebsd": true, "windows": false, "js": false} {
		if loose(0o666, goos) != want {
			t.Errorf("on %s it is %v", goos, !want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	seed := bytes.Repeat([]byte{1}, identity.SeedSize)
	k, err := identity.NewKeyFromSeed(seed)
	if err != nil {
		f.Fatal(err)
	}
	good, err := encode(k, passphrase, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(good[bodyAt:], true)
	f.Add(ageFile(f, "my diary", scryptTo(f, 1)), true)
	f.Add([]byte(magic), false)
	// sealAgain lets the fuzzer past the checksum, where a hostile file gets too. The work is capped to go fast.
	f.Fuzz(func(t *testing.T, b []byte, sealAgain bool) {
		if sealAgain {
			b = seal(b)
		}
		k, err := decode(b, passphrase, 4)
		switch {
		case err == nil && k != nil:
			if !bytes.Equal(k.Seed(), seed) {
				t.Fatal("a key that nobody encrypted")
			}
		case k != nil, !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotKeystore) && !errors.Is(err, ErrWrongPassphrase):
			t.Fatalf("decode is %v, %v", k, err)
		}
	})
}
