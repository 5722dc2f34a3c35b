package program

import (
	"fmt"
	"os"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// A Unit is what systemd is to know of a program.
type Unit struct {
	// Run are the arguments of the command that runs for good.
	Run string
	// Reload is whether it heeds SIGHUP.
	Reload bool
	// Capabilities are those that it needs: "CAP_NET_ADMIN CAP_NET_BIND_SERVICE". None: it runs as a user of its own.
	Capabilities string
	// Devices are those that it opens, such as "/dev/net/tun".
	Devices []string
}

var unitTemplate = template.Must(template.New("unit").Parse(`[Unit]
Description={{.Short}}
Documentation=https://github.com/splitmesh/splitmesh
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={{.Path}} {{.Unit.Run}}
{{- if .Unit.Reload}}
ExecReload=kill -HUP $MAINPID
{{- end}}
Restart=on-failure
RestartSec=2
# A wrong setting, another instance or a missing privilege is not mended by trying again.
RestartPreventExitStatus=2 3 4 5
TimeoutStopSec=10min
# It is no user with a home: its settings are in /etc/{{.Name}}.yaml, which it has to be able to read.
Environment=XDG_CONFIG_HOME=/etc
DynamicUser=yes
StateDirectory={{.Name}}
StateDirectoryMode=0700
{{- if .Unit.Capabilities}}
AmbientCapabilities={{.Unit.Capabilities}}
{{- end}}
CapabilityBoundingSet={{.Unit.Capabilities}}
NoNewPrivileges=yes
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
{{- if .Unit.Devices}}
DevicePolicy=closed
{{- range .Unit.Devices}}
DeviceAllow={{.}} rw
{{- end}}
{{- else}}
PrivateDevices=yes
{{- end}}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`))

func (a *App) unitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unit", Short: "Print a systemd unit that runs it as a service",
		Example: fmt.Sprintf("  %[1]s unit | sudo tee /etc/systemd/system/%[1]s.service", a.Program.Name),
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := os.Executable()
			if err != nil {
				return err
			}
			for _, hidden := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
				if strings.HasPrefix(path, hidden) {
					fmt.Fprintf(c.ErrOrStderr(), "%s: the unit's program is %s, and a service does not see %s: put it into /usr/local/bin first\n", a.Program.Name, path, hidden)
				}
			}
			return unitTemplate.Execute(c.OutOrStdout(), map[string]any{"Name": a.Program.Name, "Short": a.Program.Short, "Path": path, "Unit": a.Program.Unit})
		},
	}
}
