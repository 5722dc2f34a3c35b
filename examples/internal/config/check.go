package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// CheckURL says why a setting is no URL of one of the schemes. One with a name or a password in it is refused, and not
// repeated: settings are printed and logged.
func CheckURL(text string, schemes ...string) error {
	_, rest, _ := strings.Cut(text, "//")
	if authority, _, _ := strings.Cut(rest, "/"); strings.Contains(authority, "@") {
		return errors.New("what stands before the @ would be printed and logged: write the URL without")
	}
	if u, err := url.Parse(text); err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		return fmt.Errorf("%.80q is no URL like %s://example.org", text, schemes[0])
	}
	return nil
}

// CheckHostPort says why a setting is nothing to listen on.
func CheckHostPort(text string) error {
	_, port, err := net.SplitHostPort(text)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return fmt.Errorf("%.80q is not HOST:PORT, with a port from 0 to 65535", text)
	}
	return nil
}
