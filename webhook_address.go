package anchor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

var errAddressRefused = errors.New("is not public, and not allowed by WithWebhookAllow")

// control has the last word on a connection: the address is the one that is about to be dialled, after every lookup.
func (w *webhook) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	dialled, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("a connection of %s to something that is no address", network)
	}
	return w.check(dialled.Addr())
}

func (w *webhook) check(address netip.Addr) error {
	address = address.Unmap().WithZone("")
	allowed := func(a netip.Addr) bool {
		return slices.ContainsFunc(w.allowed, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if embedded, ok := embeddedIPv4(address); ok {
		if isPublic(embedded) || allowed(embedded) || allowed(address) {
			return nil
		}
	} else if isPublic(address) || allowed(address) {
		return nil
	}
	return fmt.Errorf("the address %v %w", address, errAddressRefused)
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	global    = netip.MustParsePrefix("2000::/3") // all that is routed of IPv6
	notPublic = parsePrefixes(
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // shared (CGNAT)
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, metadata of clouds
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/3",     // multicast, reserved, broadcast
		"2001::/23",       // protocol assignments, Teredo among them
		"2001:db8::/32",   // documentation
		"2002::/16",       // 6to4, which embeds any IPv4 address
		"3fff::/20",       // documentation
	)
)

func parsePrefixes(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		prefixes[i] = netip.MustParsePrefix(text)
	}
	return prefixes
}

// embeddedIPv4 is the address that a NAT64 gateway will turn address into.
func embeddedIPv4(address netip.Addr) (netip.Addr, bool) {
	if !nat64.Contains(address) {
		return netip.Addr{}, false
	}
	bytes := address.As16()
	return netip.AddrFrom4([4]byte(bytes[12:])), true
}

// isPublic holds for what is routed on the internet. Of IPv6 that is global unicast alone, so loopback, unique local,
// link-local, multicast, unspecified and IPv4-compatible addresses are not.
func isPublic(address netip.Addr) bool {
	if address.Is6() && !global.Contains(address) {
		return false
	}
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(address) })
}
