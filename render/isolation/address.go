package isolation

import (
	"fmt"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
)

// families are those of addresses.
type families uint8

const (
	ipv4 families = 1 << iota
	ipv6
	everyFamily = ipv4 | ipv6
)

// block is an ipBlock.
type block struct {
	pods  families // in which it may hold addresses of pods
	whole bool     // it holds all of a range of them
}

// podRanges are where pods have their addresses: which ones a cluster uses is not
// known. IPv4 addresses of pods are private ones, shared ones (RFC 6598), or of the
// ranges that some networks take when these are used up; with IPv6 pods have public
// addresses too.
var podRanges = map[families][]netip.Prefix{
	ipv4: {netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4")},
	ipv6: {netip.MustParsePrefix("2000::/3"), netip.MustParsePrefix("fc00::/7")},
}

func parseBlock(at string, raw networkingv1.IPBlock) (block, error) {
	whole, err := parsePrefix(at+".cidr", raw.CIDR)
	if err != nil {
		return block{}, err
	}
	var except []netip.Prefix
	for i, s := range raw.Except {
		at := fmt.Sprintf("%s.except[%d]", at, i)
		p, err := parsePrefix(at, s)
		if err != nil {
			return block{}, err
		}
		if p.Bits() <= whole.Bits() || !whole.Contains(p.Addr()) {
			return block{}, fmt.Errorf("%s: %s is no part of %s", at, s, raw.CIDR)
		}
		except = append(except, p)
	}
	family := ipv4
	if whole.Addr().Is6() {
		family = ipv6
	}
	var b block
	for _, r := range podRanges[family] {
		if common, ok := intersection(whole, r); ok && !covered(common, except) {
			b.pods = family
			b.whole = b.whole || common == r
		}
	}
	return b, nil
}

func parsePrefix(at, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%s: %q is not a range of addresses such as 10.20.0.0/16", at, text)
	}
	return p.Masked(), nil
}

// intersection of two prefixes is the narrower one or nothing.
func intersection(a, b netip.Prefix) (netip.Prefix, bool) {
	if !a.Overlaps(b) {
		return netip.Prefix{}, false
	}
	if a.Bits() > b.Bits() {
		return a, true
	}
	return b, true
}

// covered reports whether no address of a prefix is outside of all others. It halves
// the prefix for as long as some of them lie in a half.
func covered(p netip.Prefix, by []netip.Prefix) bool {
	by = slices.DeleteFunc(slices.Clone(by), func(b netip.Prefix) bool { return !b.Overlaps(p) })
	if slices.ContainsFunc(by, func(b netip.Prefix) bool { return b.Bits() <= p.Bits() }) {
		return true
	}
	if len(by) == 0 {
		return false
	}
	low, high := halves(p)
	return covered(low, by) && covered(high, by)
}

// halves are the two prefixes that make up one; it must not be a single address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(upper, p.Bits()+1)
}
