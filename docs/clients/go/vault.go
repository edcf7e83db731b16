package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	v1 "example.com/tresor-client/credentials"
)

const (
	// How long a credential may take, everything that is tried again included.
	deadline = 5 * time.Second
	// How long until a watch that broke begins again: the first pause, and the longest.
	firstPause, longestPause = 200 * time.Millisecond, 30 * time.Second

	// A call waits for the connection, and what failed with UNAVAILABLE is tried again: each call of this service only reads.
	// When half of the calls fail, no more are tried again.
	serviceConfig = `{
		"methodConfig": [{
			"name": [{"service": "dynarex.credentials.v1.CredentialResolver"}],
			"waitForReady": true,
			"retryPolicy": {
				"maxAttempts": 5,
				"initialBackoff": "0.2s",
				"maxBackoff": "2s",
				"backoffMultiplier": 2,
				"retryableStatusCodes": ["UNAVAILABLE"]
			}
		}],
		"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
	}`
)

// Refusal says why the vault hands nothing out, in words for programs (Code, Reason) and for people.
type Refusal struct {
	Code     codes.Code
	Reason   string
	Metadata map[string]string
	// After what time it may be tried again; nil if the vault does not say so.
	RetryAfter *time.Duration
	message    string
}

func (r *Refusal) Error() string {
	// The names that all languages have, such as NOT_FOUND.
	code := names[r.Code]
	return strings.TrimSpace(code+" "+r.Reason) + ": " + r.message
}

var names = map[codes.Code]string{
	codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
	codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
}

func refusalOf(err error) *Refusal {
	st := status.Convert(err)
	refusal := &Refusal{Code: st.Code(), message: st.Message()}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			refusal.Reason, refusal.Metadata = detail.Reason, detail.Metadata
		case *errdetails.RetryInfo:
			wait := detail.RetryDelay.AsDuration()
			refusal.RetryAfter = &wait
		}
	}
	return refusal
}

// Credential is what an order logs in with.
type Credential struct {
	Path    string
	Version uint64
	Secret  Secret
}

// Secret is `login` or `mail_account`, as docs/DOMAIN.md says.
type Secret map[string]any

// String is there so that nothing prints it.
func (Secret) String() string { return "[redacted]" }

// GoString is there so that nothing prints it.
func (Secret) GoString() string { return "[redacted]" }

// Vault is the vault, as an order service sees it. It may be used by any number of goroutines.
type Vault struct {
	connection *grpc.ClientConn
	resolver   v1.CredentialResolverClient
	keys       *signingKeys
	cache      *cache
	onChange   func(what string)
	watched    sync.Map
	closing    context.Context
	close      context.CancelFunc
}

// FromEnvironment does as the command line: TRESOR_SERVER, TRESOR_CA, TRESOR_CERT, TRESOR_KEY, else a `tresor dev` in this
// folder.
func FromEnvironment(onChange func(what string)) (*Vault, error) {
	or := func(name, otherwise string) string {
		if value, ok := os.LookupEnv(name); ok {
			return value
		}
		return otherwise
	}
	return NewVault(
		strings.TrimPrefix(or("TRESOR_SERVER", "https://localhost:8443"), "https://"),
		or("TRESOR_CA", "tresor-dev/pki/ca.pem"),
		or("TRESOR_CERT", "tresor-dev/pki/order-service.pem"),
		or("TRESOR_KEY", "tresor-dev/pki/order-service.key"),
		onChange,
	)
}

// NewVault does not connect yet.
func NewVault(address, ca, certificate, key string, onChange func(what string)) (*Vault, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	identity := credentials.NewTLS(&tls.Config{
		RootCAs:    roots,
		MinVersion: tls.VersionTLS13,
		// Read for each connection, so that a renewed certificate needs no restart.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(certificate, key)
			return &pair, err
		},
	})
	reconnect := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
	connection, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(identity),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: deadline}),
		// Finds a connection on which nothing comes any more, such as after a change of the network.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if err != nil {
		return nil, err
	}
	vault := &Vault{connection: connection, resolver: v1.NewCredentialResolverClient(connection), onChange: onChange}
	vault.keys = &signingKeys{read: vault.readKeys}
	vault.cache = newCache()
	vault.closing, vault.close = context.WithCancel(context.Background())
	return vault, nil
}

// Credential is the credential that the order gets of this provider, and whether it was still at hand. The error is a
// *Refusal, or ErrForged.
func (v *Vault) Credential(ctx context.Context, tenant, provider string, order *v1.Order) (found *Credential, fromCache bool, err error) {
	// The order's id is a part of it: each order asks once, so that the audit log has a line for each.
	asked := question{tenant, provider, order.OrderId, order.OfficeId, order.CreatedInOfficeId, order.AppraiserId, order.UserId}
	if kept := v.cache.get(asked); kept != nil {
		return kept, true, nil
	}
	request := &v1.ResolveForOrderRequest{Tenant: tenant, Provider: provider, Order: order}
	answer, err := call(ctx, func(ctx context.Context) (*v1.ResolveForOrderResponse, error) {
		return v.resolver.ResolveForOrder(ctx, request)
	})
	if err != nil {
		return nil, false, err
	}
	found, err = v.verified(ctx, request, answer.GetCredential().GetSignedCredential())
	if err != nil {
		return nil, false, err
	}
	v.watchFrom(tenant, answer.Revision)
	v.cache.keep(asked, found, answer.Credential.CacheFor.AsDuration(), answer.Revision)
	return found, false, nil
}

// Close ends watches and calls.
func (v *Vault) Close() error {
	v.close()
	return v.connection.Close()
}

func (v *Vault) readKeys(ctx context.Context) (string, error) {
	answer, err := call(ctx, func(ctx context.Context) (*v1.GetSigningKeysResponse, error) {
		return v.resolver.GetSigningKeys(ctx, &v1.GetSigningKeysRequest{})
	})
	return answer.GetJwks(), err
}

// Calls within the deadline. The channel tries again what is UNAVAILABLE; a quota says itself when to come back.
func call[A any](ctx context.Context, rpc func(context.Context) (*A, error)) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	ends, _ := ctx.Deadline()
	for {
		answer, err := rpc(ctx)
		if err == nil {
			return answer, nil
		}
		refusal := refusalOf(err)
		wait := refusal.RetryAfter
		if refusal.Code != codes.ResourceExhausted || wait == nil || time.Until(ends) <= *wait {
			return nil, refusal
		}
		select {
		case <-time.After(*wait):
		case <-ctx.Done():
			return nil, refusal
		}
	}
}

// What the vault has signed, and nothing else of its answer.
func (v *Vault) verified(ctx context.Context, request *v1.ResolveForOrderRequest, token string) (*Credential, error) {
	var payload struct {
		Tenant, Provider, Scope, Subject string
		Version                          uint64
		Login                            Secret
		MailAccount                      Secret `json:"mail_account"`
	}
	if err := v.keys.verify(ctx, token, "dynarex-credential+jws", &payload); err != nil {
		return nil, err
	}
	if payload.Tenant != request.Tenant || payload.Provider != request.Provider {
		return nil, fmt.Errorf("%w: it is for another tenant or provider", ErrForged)
	}
	path := strings.Join([]string{payload.Tenant, payload.Provider, payload.Scope}, "/")
	if payload.Subject != "" {
		path += "/" + payload.Subject
	}
	secret := payload.Login
	if secret == nil {
		secret = payload.MailAccount
	}
	return &Credential{path, payload.Version, secret}, nil
}

// Follows the tenant's changes from its first answer on, so that none falls between the two.
func (v *Vault) watchFrom(tenant string, revision uint64) {
	if _, is := v.watched.LoadOrStore(tenant, true); !is {
		go v.watch(tenant, revision)
	}
}

func (v *Vault) watch(tenant string, revision uint64) {
	pause := firstPause
	for v.closing.Err() == nil {
		request := &v1.WatchChangesRequest{Tenant: tenant, FromRevision: revision}
		stream, err := v.resolver.WatchChanges(v.closing, request)
		// It goes on after the last revision that was seen; until then `cache_for` limits what is kept.
		for err == nil {
			var answer *v1.WatchChangesResponse
			if answer, err = stream.Recv(); err == nil {
				revision, pause = answer.Event.Revision, firstPause
				v.changed(tenant, answer.Event)
			}
		}
		select {
		case <-time.After(time.Duration(float64(pause) * (0.5 + rand.Float64()/2))):
		case <-v.closing.Done():
		}
		pause = min(pause*2, longestPause)
	}
}

func (v *Vault) changed(tenant string, event *v1.ChangeEvent) {
	if event.Kind == v1.ChangeEvent_KIND_RESYNC {
		v.cache.dropAll(tenant, event.Revision)
		v.onChange(tenant)
		return
	}
	v.cache.drop(tenant, event.Ref.Provider, event.Revision)
	v.onChange(tenant + "/" + event.Ref.Provider)
}

// ErrForged is an answer that the vault has not signed as it came.
var ErrForged = errors.New("forged")
