package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrBusy is why Publish refuses a record that nothing is wrong with. It comes wrapped in a [*registry.RecordError].
var ErrBusy = errors.New("others keep changing the record or its name: publish again")

// call returns the context of one call, which ends after the timeout too, and when the client is closed.
func (d *Directory) call(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	stop := context.AfterFunc(d.client.Ctx(), cancel)
	return ctx, func() { stop(); cancel() }
}

// over returns why there is no use in going on, if there is a reason.
func (d *Directory) over(ctx context.Context) error {
	if d.client.Ctx().Err() != nil {
		return fmt.Errorf("%w: the etcd client was closed before the directory was done with it", net.ErrClosed)
	}
	return ctx.Err()
}

// explain adds to an error of etcd's what to do about it, and what became of ctx.
func (d *Directory) explain(ctx context.Context, err error) error {
	if cause := d.over(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	switch c := code(err); {
	case errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return fmt.Errorf("asking etcd: %w", err)
	case c == codes.PermissionDenied:
		prefix := strings.TrimSuffix(d.records, "records/")
		return fmt.Errorf("etcd does not let the client's user read and write below %q: have its administrator run etcdctl role grant-permission ROLE --prefix=true readwrite %q: %w", prefix, prefix, err)
	case c == codes.Unauthenticated, errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Errorf("etcd does not know the client: check Username, Password or the certificate in its clientv3.Config: %w", err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("etcd's database is full: compact and defragment it, then run etcdctl alarm disarm: %w", err)
	case isAway(err), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("etcd at %s does not answer: check the endpoints, the network, and that a majority of the members is running: %w",
			strings.Join(d.client.Endpoints(), ", "), err)
	}
	return fmt.Errorf("asking etcd: %w", err)
}

// isAway reports whether err says that etcd can't be reached, or has no leader, and may soon have one.
func isAway(err error) bool { return code(err) == codes.Unavailable }

func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}
