// An oracle: golang.org/x/mod/sumdb, unmodified, judges the bytes of our ledgers.
//
// stdin is a JSON array of questions, stdout one of answers. An answer is {"ok": true, ...} or
// {"ok": false, "error": "..."}. Nothing of konsil is used here: entries, tiles and notes are
// read by Go's own code, but for the frames of entry bundles, which sumdb does not know.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Op    string      `json:"op"`
	Vkeys []string    `json:"vkeys"`
	Note  []byte      `json:"note"`
	Data  []byte      `json:"data"`
	Size  int64       `json:"size"`
	Index int64       `json:"index"`
	Old   int64       `json:"old"`
	Root  tlog.Hash   `json:"root"`
	Was   tlog.Hash   `json:"was"`
	Leaf  tlog.Hash   `json:"leaf"`
	Proof []tlog.Hash `json:"proof"`
	Dir   string      `json:"dir"`
}

type answer struct {
	OK          bool          `json:"ok"`
	Error       string        `json:"error,omitempty"`
	Text        string        `json:"text,omitempty"`
	Signers     []string      `json:"signers,omitempty"`
	Unknown     int           `json:"unknown"`
	Hash        *tlog.Hash    `json:"hash,omitempty"`
	Entries     int64         `json:"entries"`
	Inclusion   [][]tlog.Hash `json:"inclusion,omitempty"`
	Consistency [][]tlog.Hash `json:"consistency,omitempty"`
}

func judge(q question) (answer, error) {
	var a answer
	switch q.Op {
	case "note":
		return openNote(q)
	case "leaf":
		hash := tlog.RecordHash(q.Data)
		a.Hash = &hash
		return a, nil
	case "entry":
		hash := tlog.RecordHash(record(q.Data))
		a.Hash = &hash
		return a, nil
	case "inclusion":
		return a, tlog.CheckRecord(tlog.RecordProof(q.Proof), q.Size, q.Root, q.Index, q.Leaf)
	case "consistency":
		return a, tlog.CheckTree(tlog.TreeProof(q.Proof), q.Size, q.Root, q.Old, q.Was)
	case "ledger":
		return readLedger(q)
	}
	return a, fmt.Errorf("no such question: %s", q.Op)
}

func openNote(q question) (answer, error) {
	var a answer
	var known []note.Verifier
	for _, vkey := range q.Vkeys {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return a, err
		}
		known = append(known, verifier)
	}
	opened, err := note.Open(q.Note, note.VerifierList(known...))
	if err != nil {
		return a, err
	}
	a.Text = opened.Text
	a.Unknown = len(opened.UnverifiedSigs)
	for _, signature := range opened.Sigs {
		a.Signers = append(a.Signers, signature.Name)
	}
	return a, nil
}

// tiles reads full hash tiles from a ledger's folder and partial ones from `partial/` beside.
type tiles struct{ dir string }

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		// C2SP tlog-tiles leaves out the height, which is always 8: tile/8/0/001 is tile/0/001.
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(t.dir, path))
		if err != nil && tile.W < 256 {
			data, err = os.ReadFile(filepath.Join(t.dir, "partial", path))
		}
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// An entry ends with its type, its time and its version (docs/spec/ledger.md, The tree).
var end = regexp.MustCompile(`(?s)\xa1t(?:[\xa3-\xbf]|\xd9[\x20\x21])[._a-z]+\xa2ts.{1,9}\xa1v\x01$`)

// record is what stands in the tree for an entry: a hash of its front, and its end. Go matches
// runes, so each byte is widened to one.
func record(entry []byte) []byte {
	from := len(entry) - 52
	if from < 0 {
		from = 0
	}
	var wide []rune
	for _, b := range entry[from:] {
		wide = append(wide, rune(b))
	}
	found := end.FindStringIndex(string(wide))
	if found == nil {
		return entry
	}
	at := from + len([]rune(string(wide)[:found[0]]))
	front := sha256.Sum256(append([]byte{2}, entry[:at]...))
	return append(front[:], entry[at:]...)
}

// readLedger authenticates every leaf hash and every entry against the signed checkpoint, and
// proves each entry and each smaller size anew.
func readLedger(q question) (answer, error) {
	data, err := os.ReadFile(filepath.Join(q.Dir, "checkpoint"))
	if err != nil {
		return answer{}, err
	}
	a, err := openNote(question{Note: data, Vkeys: q.Vkeys})
	if err != nil {
		return a, err
	}
	lines := strings.Split(a.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return a, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return a, err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles{q.Dir})
	var indexes []int64
	for n := int64(0); n < size; n++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, n))
	}
	leaves, err := reader.ReadHashes(indexes)
	if err != nil {
		return a, err
	}
	found, err := readEntries(q.Dir, size)
	if err != nil {
		return a, err
	}
	for n, entry := range found {
		if tlog.RecordHash(record(entry)) != leaves[n] {
			return a, fmt.Errorf("entry %d is not under its leaf hash", n)
		}
	}
	a.Entries = int64(len(found))
	for n := int64(0); n < size; n += q.Index {
		proof, err := tlog.ProveRecord(size, n, reader)
		if err != nil {
			return a, err
		}
		a.Inclusion = append(a.Inclusion, proof)
	}
	for n := int64(1); n <= size; n += q.Index {
		proof, err := tlog.ProveTree(size, n, reader)
		if err != nil {
			return a, err
		}
		a.Consistency = append(a.Consistency, proof)
	}
	return a, nil
}

// readEntries reads the full bundles and then the tail, whose frames end in a leaf hash.
func readEntries(dir string, size int64) ([][]byte, error) {
	var found [][]byte
	start := int64(0)
	for ; start+256 <= size; start += 256 {
		path := tlog.Tile{H: 8, L: -1, N: start / 256, W: 256}.Path()
		path = strings.Replace(path, "tile/8/data/", "tile/entries/", 1)
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			break
		}
		entries, err := frames(data, 0)
		if err != nil || len(entries) != 256 {
			return nil, fmt.Errorf("%s: %d entries: %v", path, len(entries), err)
		}
		found = append(found, entries...)
	}
	data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("tail.%d", start)))
	if err != nil {
		return nil, err
	}
	entries, err := frames(data, tlog.HashSize)
	return append(found, entries...), err
}

func frames(data []byte, after int) ([][]byte, error) {
	var found [][]byte
	for len(data) > 0 {
		if len(data) < 2 {
			return found, errors.New("a torn frame")
		}
		length := int(binary.BigEndian.Uint16(data))
		if len(data) < 2+length+after {
			return found, errors.New("a torn frame")
		}
		found = append(found, data[2:2+length])
		data = data[2+length+after:]
	}
	return found, nil
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	answers := make([]answer, len(questions))
	for i, q := range questions {
		a, err := judge(q)
		a.OK = err == nil
		if err != nil {
			a.Error = err.Error()
		}
		answers[i] = a
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}
