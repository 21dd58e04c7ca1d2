// Load for etcd and roost alike: the same client, connections and values; only the method and the field numbers differ.
// It speaks gRPC with hand-encoded messages, so it needs nothing generated from either side's protos.
//
//	-mode put|get    N callers, each one call after another, for S seconds
//	-mode failover   small puts every few ms to the survivors, kill -9 of the leader, time to the first acknowledged one
//
// Prints one line of JSON.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io/ioutil"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

var (
	kind       = flag.String("kind", "roost", "etcd or roost")
	targets    = flag.String("targets", "", "host:port or unix:/path, with commas between them")
	ca         = flag.String("ca", "", "CA certificate; empty: no TLS")
	cert       = flag.String("cert", "", "client certificate")
	key        = flag.String("key", "", "its key")
	serverName = flag.String("server-name", "", "name in the server's certificate")
	mode       = flag.String("mode", "put", "put, get or failover")
	clients    = flag.Int("clients", 64, "callers")
	conns      = flag.Int("conns", 1, "connections that the callers share")
	seconds    = flag.Float64("seconds", 5, "how long")
	warm       = flag.Float64("warm", 1, "seconds before anything counts")
	size       = flag.Int("size", 100, "bytes of a value")
	keys       = flag.Int("keys", 1000, "number of keys, written round and round")
	prefix     = flag.String("prefix", "bench/", "what keys begin with")
	killPid    = flag.Int("kill", 0, "failover: process to kill")
)

// Messages are bytes already.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error) { return *(v.(*[]byte)), nil }
func (raw) Unmarshal(data []byte, v interface{}) error {
	*(v.(*[]byte)) = data
	return nil
}
func (raw) Name() string { return "proto" }

func field(out []byte, number int, value []byte) []byte {
	var length [10]byte
	out = append(out, byte(number<<3|2))
	out = append(out, length[:binary.PutUvarint(length[:], uint64(len(value)))]...)
	return append(out, value...)
}

// The first two fields of etcd's PutRequest and roost's are the same, and so is the first of the reads: key, value.
func methods() (string, string) {
	if *kind == "etcd" {
		return "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
	}
	return "/roost.v1.Bench/Put", "/roost.v1.Bench/Get"
}

func dial(target string) *grpc.ClientConn {
	security := grpc.WithInsecure()
	if *ca != "" {
		pem, err := ioutil.ReadFile(*ca)
		check(err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		config := &tls.Config{RootCAs: pool, ServerName: *serverName}
		if *cert != "" {
			pair, err := tls.LoadX509KeyPair(*cert, *key)
			check(err)
			config.Certificates = []tls.Certificate{pair}
		}
		security = grpc.WithTransportCredentials(credentials.NewTLS(config))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := grpc.DialContext(ctx, target, security, grpc.WithBlock())
	check(err)
	return conn
}

func main() {
	flag.Parse()
	var all []*grpc.ClientConn
	for _, target := range strings.Split(*targets, ",") {
		for i := 0; i < *conns; i++ {
			all = append(all, dial(target))
		}
	}
	value := make([]byte, *size)
	rand.New(rand.NewSource(1)).Read(value)
	if *mode == "failover" {
		failover(all, value)
	} else {
		load(all, value)
	}
}

type result struct {
	Ops       int     `json:"ops"`
	Errors    int64   `json:"errors"`
	LastError string  `json:"lastError,omitempty"`
	PerSecond float64 `json:"perSecond"`
	P50Ms     float64 `json:"p50Ms"`
	P99Ms     float64 `json:"p99Ms"`
	MaxMs     float64 `json:"maxMs"`
	// Longest time in which no call was answered.
	MaxGapMs float64 `json:"maxGapMs"`
}

func load(conns []*grpc.ClientConn, value []byte) {
	put, get := methods()
	began := time.Now()
	counts := began.Add(time.Duration(*warm * float64(time.Second)))
	ends := counts.Add(time.Duration(*seconds * float64(time.Second)))
	latencies := make([][]float64, *clients)
	var next, errors, last, maxGap int64
	var lastError atomic.Value
	last = counts.UnixNano()
	var group sync.WaitGroup
	for c := 0; c < *clients; c++ {
		group.Add(1)
		go func(c int) {
			defer group.Done()
			conn := conns[c%len(conns)]
			for {
				from := time.Now()
				if from.After(ends) {
					return
				}
				request := field(nil, 1, []byte(fmt.Sprintf("%s%d", *prefix, atomic.AddInt64(&next, 1)%int64(*keys))))
				method := get
				if *mode == "put" {
					method = put
					request = field(request, 2, value)
				}
				var reply []byte
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				err := conn.Invoke(ctx, method, &request, &reply, grpc.ForceCodec(raw{}))
				cancel()
				now := time.Now()
				if err != nil {
					atomic.AddInt64(&errors, 1)
					lastError.Store(err.Error())
					time.Sleep(time.Millisecond)
				} else if from.After(counts) {
					latencies[c] = append(latencies[c], float64(now.Sub(from))/1e6)
					gap := now.UnixNano() - atomic.SwapInt64(&last, now.UnixNano())
					for old := atomic.LoadInt64(&maxGap); gap > old && !atomic.CompareAndSwapInt64(&maxGap, old, gap); {
						old = atomic.LoadInt64(&maxGap)
					}
				}
			}
		}(c)
	}
	group.Wait()
	took := time.Since(counts).Seconds()
	var sorted []float64
	for _, some := range latencies {
		sorted = append(sorted, some...)
	}
	sort.Float64s(sorted)
	at := func(part float64) float64 {
		if len(sorted) == 0 {
			return 0
		}
		i := int(part * float64(len(sorted)))
		if i >= len(sorted) {
			i = len(sorted) - 1
		}
		return sorted[i]
	}
	text, _ := lastError.Load().(string)
	print(result{len(sorted), errors, text, float64(len(sorted)) / took, at(0.5), at(0.99), at(1), float64(maxGap) / 1e6})
}

const everyMs = 5

// Each attempt is its own call: one that a dying leader swallowed must not hide the next.
func failover(conns []*grpc.ClientConn, value []byte) {
	put, _ := methods()
	attempt := func(conn *grpc.ClientConn, n int, acked func()) {
		request := field(field(nil, 1, []byte(fmt.Sprintf("%sf%d", *prefix, n%*keys))), 2, value)
		var reply []byte
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if conn.Invoke(ctx, put, &request, &reply, grpc.ForceCodec(raw{})) == nil {
			acked()
		}
	}
	done := make(chan time.Time, 1)
	for n := 0; n < 100; n++ {
		attempt(conns[n%len(conns)], n, func() {})
	}
	killed := time.Now()
	check(syscall.Kill(*killPid, syscall.SIGKILL))
	ticker := time.NewTicker(everyMs * time.Millisecond)
	for n := 0; ; n++ {
		for _, conn := range conns {
			go attempt(conn, n, func() {
				select {
				case done <- time.Now():
				default:
				}
			})
		}
		select {
		case at := <-done:
			print(map[string]float64{"ms": float64(at.Sub(killed)) / 1e6})
			return
		case <-ticker.C:
		}
		if time.Since(killed) > 30*time.Second {
			print(map[string]float64{"ms": -1})
			return
		}
	}
}

func print(value interface{}) {
	text, err := json.Marshal(value)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
