// Writes numbered audit lines as kube-apiserver does: one write a line, through lumberjack, which rotates, compresses
// and deletes. `cargo xtask e2e lumberjack` runs it.
//
// It tells on standard output how many lines it has written, ends when its standard input does (so that it never
// outlives who started it), and leaves the length of every line in a file.
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// One event; its parts in order: number, verb, resource, name, padding, two times, the line's length. The length has
// a fixed width, because it counts itself.
const event = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse",` +
	`"auditID":"00000000-0000-4000-8000-%012d","stage":"ResponseComplete",` +
	`"requestURI":"/api/v1/namespaces/team-a/%[3]s/%[4]s","verb":"%[2]s",` +
	`"user":{"username":"system:serviceaccount:team-a:worker","uid":"c0b4f0bf-5b1c-4f7a-9d3c-0d9ab14c2a11",` +
	`"groups":["system:serviceaccounts","system:serviceaccounts:team-a","system:authenticated"]},` +
	`"sourceIPs":["10.0.0.7"],"userAgent":"worker/v1.2.3 (linux/amd64)",` +
	`"objectRef":{"resource":"%[3]s","namespace":"team-a","name":"%[4]s","apiVersion":"v1"},` +
	`"responseStatus":{"metadata":{},"code":200},` +
	`"responseObject":{"kind":"Status","apiVersion":"v1","metadata":{},"message":"%[5]s"},` +
	`"requestReceivedTimestamp":"%[6]s","stageTimestamp":"%[7]s",` +
	`"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"","e2e/bytes":"%08[8]d"}}` + "\n"

const words = "the quick brown fox jumps over the lazy dog and waits for nobody "

var (
	verbs     = []string{"get", "list", "create", "update", "patch", "delete"}
	resources = []string{"pods", "services", "endpoints", "events", "persistentvolumeclaims"}
	padding   = strings.Repeat(words, 2000)
)

// padBytes gives most lines about a kilobyte, some ten times, a few a hundred times as much.
func padBytes(number int) int {
	switch {
	case number%5003 == 5002:
		return 100_000
	case number%197 == 196:
		return 10_000
	default:
		return number * 7919 % 400
	}
}

// line is the event of that number, with its newline. A line's length without the newline is in it.
func line(number int, now time.Time) string {
	const layout = "2006-01-02T15:04:05.000000Z"
	verb, resource := verbs[number%len(verbs)], resources[number/7%len(resources)]
	name := fmt.Sprintf("object-%d", number%5000)
	received, done := now.UTC().Format(layout), now.UTC().Add(time.Millisecond).Format(layout)
	text := fmt.Sprintf(event, number, verb, resource, name, padding[:padBytes(number)], received, done, 0)
	mark := `"e2e/bytes":"`
	at := strings.LastIndex(text, mark) + len(mark)
	return text[:at] + fmt.Sprintf("%08d", len(text)-1) + text[at+8:]
}

func main() {
	path := flag.String("path", "audit.log", "the log")
	lines := flag.Int("lines", 1_000_000, "how many lines to write")
	rate := flag.Int("rate", 4000, "lines a second")
	burst := flag.Int("burst", 1, "lines that are written at once, after which the rate is kept by a pause")
	maxSize := flag.Int("maxsize", 1, "as --audit-log-maxsize, in MB")
	maxBackups := flag.Int("maxbackup", 3, "as --audit-log-maxbackup")
	lengths := flag.String("lengths", "", "the file for the lengths, newline included: 4 bytes each, little endian")
	flag.Parse()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	if err := write(*path, *lines, *rate, *burst, *maxSize, *maxBackups, *lengths); err != nil {
		log.Fatal(err)
	}
}

func write(path string, lines, rate, burst, maxSize, maxBackups int, lengths string) error {
	file, err := os.Create(lengths)
	if err != nil {
		return err
	}
	list := bufio.NewWriter(file)
	// As kube-apiserver makes its own (apiserver/pkg/server/options/audit.go, getWriter).
	logger := &lumberjack.Logger{Filename: path, MaxSize: maxSize, MaxBackups: maxBackups, Compress: true}
	start := time.Now()
	for number := 0; number < lines; {
		now := time.Now()
		due := min(lines, int(now.Sub(start).Seconds()*float64(rate))/burst*burst)
		if number >= due {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		for ; number < due; number++ {
			text := line(number, now)
			if _, err := io.WriteString(logger, text); err != nil {
				return err
			}
			if err := binary.Write(list, binary.LittleEndian, uint32(len(text))); err != nil {
				return err
			}
		}
		fmt.Println(number)
	}
	if err := list.Flush(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return logger.Close()
}
