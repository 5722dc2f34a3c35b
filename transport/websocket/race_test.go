//go:build race && !js

package websocket

func init() { raceEnabled = true }
