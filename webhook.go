package anchor

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	webhookQueue = "anchor.webhooks"
	// webhookPrefix and the task's name are the name of its deliveries, so that they go to processes that know its webhook.
	webhookPrefix = "anchor.webhook/"

	webhookInterval    = "5s,30s,2m,10m,30m,1h,3h"
	webhookAttempts    = 12 // over 17 hours
	webhookTimeout     = 30 * time.Second
	webhookDialTimeout = 10 * time.Second
	maxWebhookHeader   = 64 << 10

	leastWebhookSecret = 16
)

// WebhookOption is an option of [WebhookOnFailed].
type WebhookOption interface {
	fmt.Stringer
	applyWebhook(*webhook) error
}

type webhookOption struct {
	text string
	set  func(*webhook) error
}

func (o webhookOption) String() string                { return o.text }
func (o webhookOption) applyWebhook(w *webhook) error { return o.set(w) }

// WithWebhookSecret signs each delivery with the secret, and also with old ones while receivers move to a new one. A
// secret has 16 bytes or more. It stays in this process: neither the database nor a log ever has it. Receivers verify as
// Standard Webhooks (standardwebhooks.com) describe: the header Webhook-Signature holds, for each secret, "v1," and the
// base64 of the HMAC-SHA256, keyed with the secret's bytes, of
//
//	<Webhook-Id>.<Webhook-Timestamp>.<body>
//
// where Webhook-Timestamp is in Unix seconds, and should be refused when it is minutes away. Defaults to no signature:
// then a receiver cannot tell who has sent a delivery.
func WithWebhookSecret(secret string, old ...string) WebhookOption {
	return webhookOption{"WithWebhookSecret(...)", func(w *webhook) error {
		for _, s := range append([]string{secret}, old...) {
			if len(s) < leastWebhookSecret {
				return fmt.Errorf("a secret has %d bytes, at least %d are needed", len(s), leastWebhookSecret)
			}
			w.secrets = append(w.secrets, []byte(s))
		}
		return nil
	}}
}

// WithWebhookParams sends the failed task's parameters, too. Defaults to sending none.
func WithWebhookParams() WebhookOption {
	return webhookOption{"WithWebhookParams()", func(w *webhook) error { w.withParams = true; return nil }}
}

// WithWebhookAllow allows deliveries to addresses that are refused otherwise: prefixes such as "10.1.0.0/16", or single
// addresses such as "127.0.0.1". Defaults to none.
func WithWebhookAllow(prefixes ...string) WebhookOption {
	return webhookOption{fmt.Sprintf("WithWebhookAllow(%q)", prefixes), func(w *webhook) error {
		for _, text := range prefixes {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				address, addressErr := netip.ParseAddr(text)
				if addressErr != nil || address.Zone() != "" {
					return fmt.Errorf("%q is neither a prefix such as \"10.1.0.0/16\" nor an address", text)
				}
				prefix = netip.PrefixFrom(address, address.BitLen())
			}
			w.allowed = append(w.allowed, prefix)
		}
		return nil
	}}
}

// WebhookOnFailed posts a [WebhookBody] to rawURL once a task has failed for good, beside its [FailureHook] if it has one,
// and whatever becomes of that. The task's final status and the delivery commit together: the delivery is a task of its
// own in the queue "anchor.webhooks", named "anchor.webhook/" and the task's name, and runs as any other does, in the
// workers that have this declaration, those with [WithQueues] included. It has 12 attempts over 17 hours, of 30 seconds
// each; a tasks.yaml may set others. What is no status from 200 to 299 is tried again, redirects included, which are not followed;
// a 429 or 503 sets the distance as for [CheckResponse]. So a receiver may see a delivery twice: Webhook-Id
// and Idempotency-Key are its id, the same in every attempt. As for a hook, nothing is sent for a cancelled task.
//
// A delivery that is pending when its declaration is dropped or the task renamed stays so, as any task without a handler.
//
// The URL and the secrets are read from this declaration when a delivery is sent, and not stored; the error's text is.
//
// Addresses that are not public are refused, by the address that is dialled, whatever the DNS says: loopback, private,
// link-local, unique local, shared (CGNAT), multicast, unspecified, reserved, and IPv6 forms of them. [WithWebhookAllow]
// allows some. Proxies of the environment are not used.
//
// It is given once. Defaults to no webhook.
func WebhookOnFailed(rawURL string, opts ...WebhookOption) TaskOption {
	w, err := newWebhook(rawURL, opts)
	return taskOption{
		text: fmt.Sprintf("WebhookOnFailed(%q)", w.host()),
		set: func(o *taskOptions) error {
			if err != nil {
				return err
			}
			if o.webhook != nil {
				return errors.New("the task has a webhook already")
			}
			o.webhook = w
			return nil
		},
	}
}

// webhook is where and how failures are posted. It is safe for concurrent use.
type webhook struct {
	url        *url.URL
	secrets    [][]byte
	withParams bool
	allowed    []netip.Prefix
	resolver   *net.Resolver // nil: the default one
	client     *retryablehttp.Client
}

// newWebhook joins the mistakes. What it returns beside them is of use for its text alone. No error holds the URL,
// whose path may be a secret.
func newWebhook(rawURL string, opts []WebhookOption) (*webhook, error) {
	w := &webhook{}
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		if err := opt.applyWebhook(w); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", opt, err))
		}
	}
	parsed, err := url.Parse(rawURL)
	switch {
	case err != nil || !utf8.ValidString(rawURL):
		errs = append(errs, errors.New("the URL cannot be parsed"))
	case parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "":
		errs = append(errs, errors.New("the URL is not like https://host/path"))
	default:
		w.url = parsed
		if address, err := netip.ParseAddr(parsed.Hostname()); err == nil {
			errs = append(errs, w.check(address))
		}
	}
	w.client = w.newHTTPClient()
	return w, errors.Join(errs...)
}

func (w *webhook) host() string {
	if w.url == nil {
		return ""
	}
	return w.url.Scheme + "://" + w.url.Host
}

// newHTTPClient makes one that asks once, as every further try is an attempt of the delivery; that says nothing, and
// keeps no connection: nothing is left when a worker has ended.
func (w *webhook) newHTTPClient() *retryablehttp.Client {
	dialer := &net.Dialer{Timeout: webhookDialTimeout, ControlContext: w.control, Resolver: w.resolver}
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: &http.Transport{
				DialContext: dialer.DialContext, DisableKeepAlives: true,
				TLSHandshakeTimeout: webhookDialTimeout, MaxResponseHeaderBytes: maxWebhookHeader,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     0,
		CheckRetry:   retryablehttp.ErrorPropagatedRetryPolicy,
		Backoff:      retryablehttp.DefaultBackoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// declareWebhook defines the task that the deliveries of a task are.
func (d *taskDefinition) declareWebhook(w *webhook) {
	if len(d.name) > maxNameLength-len(webhookPrefix) {
		d.mistake(fmt.Errorf("WebhookOnFailed: the name has %d bytes, at most %d are allowed with a webhook", len(d.name), maxNameLength-len(webhookPrefix)))
		return
	}
	sender := &webhookSender{webhook: w, task: d.name}
	d.webhook = sender
	d.delivery = Define(webhookPrefix+d.name, sender.deliver,
		WithQueue(webhookQueue), WithRetryPolicy(webhookInterval, webhookAttempts), WithTimeout(webhookTimeout),
		WithDescription("Posts the final failures of "+d.name+" to "+w.host())).def
	d.delivery.source = d.source
}
