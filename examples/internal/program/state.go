package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/adrg/xdg"
	"github.com/gofrs/flock"
)

// A State is the directory of what a program keeps. One process at a time has it.
type State struct {
	Dir  string
	lock *flock.Flock
}

// Dir is the state directory, whether it is there or not.
func (a *App) Dir() string {
	if a.state != "" {
		return a.state
	}
	return stateDir(a.Program.Name)
}

// stateDir is where systemd says, else where the platform's rules put it.
func stateDir(name string) string {
	switch dir := os.Getenv("STATE_DIRECTORY"); {
	case dir != "":
		return dir
	case os.Geteuid() == 0:
		return filepath.Join("/var/lib", name)
	}
	return filepath.Join(xdg.StateHome, name)
}

func configHome() string {
	if os.Geteuid() == 0 {
		return "/etc"
	}
	return xdg.ConfigHome
}

// Open makes the state directory if it is not there, and takes it for this process. Close it when all else has ended.
func (a *App) Open() (*State, error) {
	dir := a.Dir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("state directory: %w", err)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0:
		return nil, &Error{
			Status: Settings, Err: fmt.Errorf("state directory: others may write to %s, and put a key and a socket of theirs there", dir),
			Hint: "If all in it is yours, run chmod go-w on it; or name one that is not there yet, such as --state " + filepath.Join(dir, a.Program.Name),
		}
	}
	s := &State{Dir: dir, lock: flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))}
	ok, err := s.lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("state directory: %w", err)
	case !ok:
		return nil, &Error{
			Status: Busy, Err: fmt.Errorf("another %s uses %s", a.Program.Name, dir),
			Hint: "End it first, or give this one a directory of its own with --state.",
		}
	}
	return s, nil
}

// Path is that of a file in the directory.
func (s *State) Path(name string) string { return filepath.Join(s.Dir, name) }

// Close lets others have the directory.
func (s *State) Close() error {
	return errors.Join(s.lock.Unlock())
}

// WriteFile has the file hold data, for its owner only: all of it or, when this fails, what it held before.
func WriteFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // that the name survives a loss of power; not all systems can
		_ = dir.Sync()
		dir.Close()
	}
	return nil
}
