// A consumer in Go with streadway/amqp, as in its example "simple-consumer": Qos, Consume, and an Ack for each delivery when it is
// done. Jobs that wait have a goroutine each, up to the concurrency of the order. With the argument `pull` it gets one message at
// a time with basic.get and acks it, which is what Pull and Done of the Go library Hop do.
//
// What it is told and what it tells is the same as for everybody else, see order.py and tally.py.
package main

import (
	"encoding/binary"
	"encoding/json"
	"log"
	"math/rand"
	"net"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/streadway/amqp"
)

type order struct {
	URL         string  `json:"url"`
	Queue       string  `json:"queue"`
	Report      string  `json:"report"`
	First       int     `json:"first"`
	Last        int     `json:"last"`
	Concurrency int     `json:"concurrency"`
	Prefetch    int     `json:"prefetch"`
	Shortest    float64 `json:"shortest"`
	Longest     float64 `json:"longest"`
	Timed       bool    `json:"timed"`
}

type tally struct {
	order
	lock  sync.Mutex
	done  int
	began time.Time
	ages  []float64
}

func (t *tally) run(body []byte) {
	age := 0.0
	if t.Timed {
		age = float64(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(body))) / 1e9
	}
	if t.Longest > 0 {
		time.Sleep(time.Duration((t.Shortest + rand.Float64()*(t.Longest-t.Shortest)) * float64(time.Second)))
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.Timed && t.done >= t.First {
		t.ages = append(t.ages, age)
	}
	t.done++
	if t.done == t.First {
		t.began = time.Now()
		t.send(map[string]interface{}{"mark": "first"})
	}
	if t.done == t.Last {
		report := map[string]interface{}{"mark": "last", "seconds": time.Since(t.began).Seconds()}
		if sort.Float64s(t.ages); len(t.ages) > 0 {
			report["p50"], report["p99"] = t.ages[len(t.ages)*50/100], t.ages[len(t.ages)*99/100]
		}
		t.send(report)
	}
}

func (t *tally) send(report map[string]interface{}) {
	conn, err := net.Dial("unixgram", t.Report)
	check(err)
	defer conn.Close()
	check(json.NewEncoder(conn).Encode(report))
}

func main() {
	t := &tally{}
	check(json.Unmarshal([]byte(os.Getenv("HOPD_BENCH")), &t.order))
	conn, err := amqp.Dial(t.URL)
	check(err)
	channel, err := conn.Channel()
	check(err)
	if len(os.Args) > 1 && os.Args[1] == "pull" {
		t.pull(channel)
	} else {
		t.consume(channel)
	}
}

func (t *tally) consume(channel *amqp.Channel) {
	check(channel.Qos(t.Prefetch, 0, false))
	deliveries, err := channel.Consume(t.Queue, "", false, false, false, false, nil)
	check(err)
	workers := 1
	if t.Longest > 0 {
		workers = t.Concurrency
	}
	var running sync.WaitGroup
	for i := 0; i < workers; i++ {
		running.Add(1)
		go func() {
			defer running.Done()
			for delivery := range deliveries {
				t.run(delivery.Body)
				check(delivery.Ack(false))
			}
		}()
	}
	running.Wait()
}

func (t *tally) pull(channel *amqp.Channel) {
	for {
		delivery, ok, err := channel.Get(t.Queue, false)
		check(err)
		if ok {
			t.run(delivery.Body)
			check(delivery.Ack(false))
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
