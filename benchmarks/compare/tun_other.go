//go:build !linux

package main

import (
	"context"
	"errors"
)

func tunMissing() error { return errors.New("it needs Linux") }

func startTUN(context.Context, gateway) (*world, error) { return nil, tunMissing() }
