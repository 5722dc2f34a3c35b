package keystore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/splitmesh/splitmesh/identity"
)

const (
	magic    = "splitmesh-keystore-v1 "
	ageMagic = "age-encryption.org/v1\n"
	// bodyAt is where the age file begins: after the magic, the checksum and a line end.
	bodyAt = len(magic) + 2*sha256.Size + 1

	keyMagic = "splitmesh-key-v1 "
	// keySize is the length of what age encrypts.
	keySize = len(keyMagic) + 2*identity.SeedSize + 1
)

// encode returns the contents of a keystore. A workFactor of 0 means the default.
func encode(k *identity.Key, passphrase []byte, workFactor int) ([]byte, error) {
	if workFactor == 0 {
		workFactor = DefaultWorkFactor
	}
	if workFactor < 1 || workFactor > MaxWorkFactor {
		return nil, fmt.Errorf("%w: %d, and 1 to %d are allowed", ErrWorkFactor, workFactor, MaxWorkFactor)
	}
	if len(passphrase) == 0 {
		return nil, ErrNoPassphrase
	}
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	var body bytes.Buffer
	w, err := age.Encrypt(&body, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plaintext(k.Seed())); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return seal(body.Bytes()), nil
}

// plaintext is what age encrypts.
func plaintext(seed []byte) []byte { return fmt.Appendf(nil, "%s%x\n", keyMagic, seed) }

// seal puts the first line before an age file.
func seal(body []byte) []byte {
	return fmt.Appendf(nil, "%s%x\n%s", magic, sha256.Sum256(body), body)
}

// decode opens the contents of a keystore, whose first line must fit, and which may cost 2^maxWorkFactor.
func decode(b, passphrase []byte, maxWorkFactor int) (*identity.Key, error) {
	body, err := unseal(b)
	if err != nil {
		return nil, err
	}
	if len(passphrase) == 0 {
		return nil, ErrNoPassphrase
	}
	// From here on the file is as somebody made it: what is wrong with it was wrong from the beginning.
	text, err := decrypt(body, passphrase, maxWorkFactor)
	if err != nil {
		return nil, err
	}
	seed := make([]byte, identity.SeedSize)
	if len(text) == keySize {
		// What is no hexadecimal leaves a seed that does not spell the same.
		_, _ = hex.Decode(seed, text[len(keyMagic):keySize-1])
	}
	if !bytes.Equal(text, plaintext(seed)) {
		return nil, fmt.Errorf("%w: something else is encrypted in it", ErrNotKeystore)
	}
	return identity.NewKeyFromSeed(seed)
}

// unseal checks the first line and returns the age file.
func unseal(b []byte) ([]byte, error) {
	hasMagic := bytes.HasPrefix(b, []byte(magic)) || len(b) < len(magic) && bytes.HasPrefix([]byte(magic), b)
	// When the magic itself is damaged, the age file in its place shows that this was a keystore.
	hasBody := len(b) > bodyAt && bytes.HasPrefix(b[bodyAt:], []byte(ageMagic))
	switch {
	case !hasMagic && !hasBody:
		return nil, ErrNotKeystore
	case len(b) < bodyAt:
		return nil, fmt.Errorf("%w: it is cut off after %d bytes", ErrCorrupt, len(b))
	}
	body := b[bodyAt:]
	if !bytes.Equal(b, seal(body)) {
		return nil, fmt.Errorf("%w: its checksum does not match", ErrCorrupt)
	}
	return body, nil
}

// decrypt opens the age file. It withholds age's messages, which quote the file.
func decrypt(body, passphrase []byte, maxWorkFactor int) ([]byte, error) {
	scrypt, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	scrypt.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(bytes.NewReader(body), scrypt)
	var noMatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &noMatch) && len(noMatch.StanzaTypes) == 1 && noMatch.StanzaTypes[0] == "scrypt":
		return nil, ErrWrongPassphrase
	case errors.As(err, &noMatch):
		return nil, fmt.Errorf("%w: it is not encrypted with a passphrase", ErrNotKeystore)
	case err != nil:
		return nil, fmt.Errorf("%w: no age file that a passphrase opens in fewer than 2^%d steps", ErrNotKeystore, maxWorkFactor+1)
	}
	text, err := io.ReadAll(io.LimitReader(r, int64(keySize)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: the passphrase is right, but what it encrypts was changed", ErrCorrupt)
	}
	return text, nil
}
