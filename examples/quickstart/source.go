package main

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
)

// A source is what the sender sends: a file, or random data made as it is read.
type source struct {
	io.Reader
	file *os.File // nil for random data
	was  fs.FileInfo
	read int64
}

// checkFile reports the size of a file that can be sent.
func checkFile(name string) (int64, error) {
	s, err := openFile(name)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return s.was.Size(), nil
}

// openSource opens a file, which must have the given size still, or random data.
func openSource(name string, size int64) (*source, error) {
	if name == "" {
		var seed [32]byte
		crand.Read(seed[:])
		return &source{Reader: io.LimitReader(rand.NewChaCha8(seed), size)}, nil
	}
	s, err := openFile(name)
	if err != nil {
		return nil, err
	}
	if now := s.was.Size(); now != size {
		s.Close()
		return nil, fmt.Errorf("%s changed as it was about to be sent: it had %d bytes, and now %d", name, size, now)
	}
	return s, nil
}

func openFile(name string) (*source, error) {
	// What is not a regular file might not even open: a pipe waits for a writer.
	was, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", name)
	case err != nil:
		return nil, fmt.Errorf("can't look at the file: %w", err)
	case was.IsDir():
		return nil, fmt.Errorf("%s is a directory; give a file", name)
	case !was.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case was.Size() == 0:
		return nil, fmt.Errorf("%s is empty: there is nothing to send", name)
	case was.Size() < minSize || was.Size() > maxSize:
		return nil, fmt.Errorf("%s has %s: for the relays' shares to say something it needs %s to %s",
			name, formatSize(was.Size()), formatSize(int64(minSize)), formatSize(int64(maxSize)))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("can't read the file: %w", err)
	}
	if was, err = f.Stat(); err != nil {
		f.Close()
		return nil, fmt.Errorf("can't look at the file: %w", err)
	}
	return &source{Reader: f, file: f, was: was}, nil
}

// Read implements io.Reader. A file that has become longer than it was is not
// read beyond that, and one that is shorter is an error.
func (s *source) Read(p []byte) (int, error) {
	if s.file == nil {
		return s.Reader.Read(p)
	}
	left := s.was.Size() - s.read
	if left == 0 {
		return 0, io.EOF
	}
	n, err := s.Reader.Read(p[:min(int64(len(p)), left)])
	s.read += int64(n)
	if err == io.EOF {
		err = s.changed(s.read)
	}
	return n, err
}

// Unchanged reports whether the file is still what it was when it was opened.
func (s *source) Unchanged() error {
	if s.file == nil {
		return nil
	}
	now, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("can't look at the file: %w", err)
	}
	if now.Size() != s.was.Size() || !now.ModTime().Equal(s.was.ModTime()) {
		return s.changed(now.Size())
	}
	return nil
}

func (s *source) changed(size int64) error {
	how := "was written to"
	switch {
	case size < s.was.Size():
		how = "shrank"
	case size > s.was.Size():
		how = "grew"
	}
	return fmt.Errorf("%s %s while it was sent: it had %d bytes, and now %d", s.file.Name(), how, s.was.Size(), size)
}

// Close closes the file.
func (s *source) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
