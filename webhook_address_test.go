package anchor

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func mustWebhook(t *testing.T, opts ...WebhookOption) *webhook {
	t.Helper()
	w, err := newWebhook("https://hooks.example/failed", opts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWebhookRefusesAddressesThatAreNotPublic(t *testing.T) {
	t.Parallel()
	refused := []string{
		"127.0.0.1", "127.255.255.254", "::1", // loopback
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", // private
		"169.254.169.254", "fe80::1", "fe80::1%eth0", "febf::1", // link-local
		"fc00::1", "fd12:3456::1", "fec0::1", // unique and site local
		"100.64.0.1", "100.127.255.255", // CGNAT
		"224.0.0.1", "239.255.255.255", "ff02::1", "240.0.0.1", "255.255.255.255", // multicast, reserved, broadcast
		"0.0.0.0", "0.1.2.3", "::", // unspecified
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", // IPv4 within IPv6
		"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:808:808::1", "2001::1", // translated, tunnels
		"192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "100::1", "4000::1",
	}
	public := []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.167.1.1",
		"169.253.1.1", "223.255.255.255", "::ffff:8.8.8.8", "2606:4700::1111", "2001:4860:4860::8888", "64:ff9b::808:808",
	}
	w := mustWebhook(t)
	for _, text := range refused {
		if err := w.check(netip.MustParseAddr(text)); !errors.Is(err, errAddressRefused) {
			t.Errorf("%s: %v, want it to be refused", text, err)
		}
		if text = strings.TrimSuffix(text, "%eth0"); w.control(t.Context(), "tcp6", net.JoinHostPort(text, "80"), nil) == nil {
			t.Errorf("a connection to %s is not refused", text)
		}
	}
	for _, text := range public {
		if err := w.control(t.Context(), "tcp4", net.JoinHostPort(text, "443"), nil); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := w.control(t.Context(), "unix", "/run/docker.sock", nil); err == nil {
		t.Error("a unix socket is not refused")
	}
}

func TestWebhookAllowsAddresses(t *testing.T) {
	t.Parallel()
	w := mustWebhook(t, WithWebhookAllow("10.1.0.0/16", "::1"), WithWebhookAllow("192.168.7.7"))
	for text, allowed := range map[string]bool{
		"10.1.255.255": true, "10.2.0.1": false, "::1": true, "::2": false, "192.168.7.7": true, "192.168.7.8": false,
		"::ffff:10.1.0.1": true, "64:ff9b::a01:1": true, "64:ff9b::a02:1": false, "127.0.0.1": false, "8.8.8.8": true,
	} {
		if err := w.check(netip.MustParseAddr(text)); (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed %v", text, err, allowed)
		}
	}
}

// nameServer answers every question for an A record by the address that it has then.
type nameServer struct {
	conn    net.PacketConn
	address atomic.Pointer[netip.Addr]
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn}
	ended := make(chan struct{})
	go func() { defer close(ended); s.serve() }()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	return s
}

func (s *nameServer) set(address string) {
	parsed := netip.MustParseAddr(address)
	s.address.Store(&parsed)
}

func (s *nameServer) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		if n < 12 {
			continue
		}
		end := 12 // of the question: labels, a zero, type and class
		for end < n && packet[end] != 0 {
			end += int(packet[end]) + 1
		}
		end += 5
		if end > n {
			continue
		}
		reply := append([]byte(nil), packet[:end]...)
		binary.BigEndian.PutUint16(reply[2:], 0x8180)
		binary.BigEndian.PutUint64(reply[4:], 1<<48) // one question
		if question := binary.BigEndian.Uint16(reply[end-4:]); question == 1 {
			reply[7] = 1 // one answer
			reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			reply = append(reply, s.address.Load().AsSlice()...)
		}
		_, _ = s.conn.WriteTo(reply, from)
	}
}

// resolver asks the server alone.
func (s *nameServer) resolver() WebhookOption {
	return webhookOption{"resolver", func(w *webhook) error {
		w.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp4", s.conn.LocalAddr().String())
		}}
		return nil
	}}
}

// A name that is allowed at first points elsewhere by the time of the next attempt, and back again.
func TestWebhookChecksTheAddressOfEachDial(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		names := newNameServer(t)
		names.set("127.0.0.1")
		receiver := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			names.set("127.0.0.2") // where this server does not listen, or something else does
			w.WriteHeader(500)
		}, answer(200))
		url := strings.Replace(receiver.url, "127.0.0.1", "hooks.example", 1)
		task := Define("Charge", func(context.Context, pgx.Tx, *chargeParams) error { return Fatal(errDeclined) },
			WebhookOnFailed(url, WithWebhookAllow("127.0.0.1"), names.resolver()))
		client, err := New(store, WithTasks(task), quickDeliveries(t, "10s"), WithLogger(slog.New(slog.NewTextHandler(rig.logs, nil))))
		if err != nil {
			t.Fatal(err)
		}
		client.failed = func(_ int64, err error) {
			if errors.Is(err, errAddressRefused) {
				names.set("127.0.0.1")
			}
		}
		rig.startWork(client, WithPollInterval(20*time.Millisecond))
		enqueue(rig, client, task, &chargeParams{canary})
		delivery := rig.delivered(client)
		if delivery.Status != StatusCompleted || delivery.Attempts != 3 || len(delivery.Errors) != 2 {
			t.Fatalf("%s after %d attempts, errors %v; want completed after 3", delivery.Status, delivery.Attempts, delivery.Errors)
		}
		if message := delivery.Errors[1].Message; !strings.Contains(message, "the address 127.0.0.2 is not public") || strings.Contains(message, webhookPath) {
			t.Errorf("error %q", message)
		}
		if n := len(receiver.taken()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

// Loopback by a name is refused before a connection is there.
func TestWebhookRefusesLoopbackByDefault(t *testing.T) {
	t.Parallel()
	rig := &pgRig{t: t, logs: &testLog{}}
	receiver := newReceiver(t)
	url := strings.Replace(receiver.url, "127.0.0.1", "localhost", 1)
	task := Define("Charge", func(context.Context, pgx.Tx, *chargeParams) error { return Fatal(errDeclined) }, WebhookOnFailed(url))
	client, err := New(NewMemoryStore(), WithTasks(task), quickDeliveries(t, "10s"), WithLogger(slog.New(slog.NewTextHandler(rig.logs, nil))))
	if err != nil {
		t.Fatal(err)
	}
	rig.startWork(client)
	enqueue(rig, client, task, &chargeParams{canary})
	delivery := rig.delivered(client)
	if delivery.Status != StatusFailed || delivery.Attempts != 9 || !strings.Contains(delivery.Errors[8].Message, "is not public, and not allowed by WithWebhookAllow") {
		t.Errorf("%s after %d attempts, errors %v", delivery.Status, delivery.Attempts, delivery.Errors)
	}
	if n := len(receiver.taken()); n > 0 {
		t.Errorf("%d requests, want none", n)
	}
}
