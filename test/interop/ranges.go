package main

import (
	"net/netip"
	"strings"
)

// rangeToPrefixes is the shortest list of prefixes that covers the addresses from start to end, both included.
func rangeToPrefixes(start, end netip.Addr) []netip.Prefix {
	var prefixes []netip.Prefix
	for start.IsValid() && start.Compare(end) <= 0 {
		bits := start.BitLen()
		for bits > 0 {
			wider := netip.PrefixFrom(start, bits-1)
			if wider.Masked().Addr() != start || lastOf(wider).Compare(end) > 0 {
				break
			}
			bits--
		}
		prefix := netip.PrefixFrom(start, bits)
		prefixes = append(prefixes, prefix)
		start = lastOf(prefix).Next()
	}
	return prefixes
}

func lastOf(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

func parsePrefixes(list string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range strings.Split(list, ",") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}
