package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/splitmesh/splitmesh/internal/atomicfile"
)

// writeFile puts a file with the contents b and mode 0600 at path, whole or not at all.
func writeFile(path string, b []byte, overwrite bool) error {
	// Asked first, so that most mistakes end before anything is written. Create is what makes sure.
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		overwrite = false
	case err != nil:
		return err
	case !overwrite:
		return ErrExists
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is no regular file (%v)", ErrExists, info.Mode().Type())
	}
	if err := atomicfile.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	if overwrite {
		return atomicfile.Write(path, b)
	}
	err := atomicfile.Create(path, b)
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
}
