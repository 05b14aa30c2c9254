package artifacts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/refitml/refit/internal/lifecycle"
)

// Anchors keep heads of ledgers where a database's owner cannot change them:
//
//	ledger/SERVICE/EPOCH/SEQUENCE-CHAIN.json
//
// What an anchor says stands in its name, so a listing shows all of them, and none can be turned into another. Where the
// bucket has object lock they are kept in mode COMPLIANCE: until then nobody deletes or overwrites them.

// anchorName is the last part of an anchor's key; its digits keep the order.
func anchorName(a lifecycle.Anchor) string { return fmt.Sprintf("%012d-%s.json", a.Sequence, a.Chain) }

func (s *Store) anchorPrefix(service string) string { return s.cfg.Prefix + "ledger/" + service + "/" }

// PutAnchor writes an anchor, locked until so long from its time, and says whether it is locked: a bucket without object
// lock keeps it unlocked. An anchor that is there already stays as it is.
func (s *Store) PutAnchor(ctx context.Context, a lifecycle.Anchor, keep time.Duration) (locked bool, err error) {
	if !a.Chain.Valid() || a.Sequence < 1 || a.Epoch < 1 || a.Service == "" {
		return false, lifecycle.Errorf(lifecycle.Invalid, "an anchor of %q at entry %d of epoch %d", a.Service, a.Sequence, a.Epoch)
	}
	body, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("encode an anchor: %w", err)
	}
	key := s.anchorPrefix(a.Service) + strconv.FormatInt(a.Epoch, 10) + "/" + anchorName(a)
	options := minio.PutObjectOptions{
		ContentType: "application/json", Mode: minio.Compliance, RetainUntilDate: a.At.Add(keep).UTC().Truncate(time.Second),
		SendContentMd5: true,
	}
	options.SetMatchETagExcept("*")
	_, err = s.client.Client.PutObject(ctx, s.cfg.Bucket, key, bytes.NewReader(body), int64(len(body)), options)
	if withoutLock(err) {
		options.Mode, options.RetainUntilDate = "", time.Time{}
		_, err = s.client.Client.PutObject(ctx, s.cfg.Bucket, key, bytes.NewReader(body), int64(len(body)), options)
		locked = false
	} else {
		locked = true
	}
	err = fault(ctx, err, "write anchor %d of the ledger of %s", a.Sequence, a.Service)
	if lifecycle.Is(err, lifecycle.Conflict) {
		return locked, nil
	}
	return locked && err == nil, err
}

// withoutLock says whether the server refused because the bucket has no object lock.
func withoutLock(err error) bool {
	if err == nil {
		return false
	}
	c := code(err)
	return c == "InvalidRequest" || c == "ObjectLockConfigurationNotFoundError" || c == "NotImplemented" || c == "InvalidBucketObjectLockConfiguration"
}

// Anchors lists all anchors of a service, also such as somebody deleted where the bucket keeps versions.
func (s *Store) Anchors(ctx context.Context, service string) ([]lifecycle.Anchor, error) {
	prefix := s.anchorPrefix(service)
	found, err := s.listAnchors(ctx, prefix, true)
	if err != nil {
		if found, err = s.listAnchors(ctx, prefix, false); err != nil { // a server without versions
			return nil, fault(ctx, err, "list the anchors of the ledger of %s", service)
		}
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Concurrency)
	list := make([]lifecycle.Anchor, len(found))
	for i, object := range found {
		group.Go(func() error {
			var err error
			list[i], err = s.anchor(inner, service, prefix, object)
			return err
		})
	}
	return list, group.Wait()
}

func (s *Store) listAnchors(ctx context.Context, prefix string, versions bool) (found []minio.ObjectInfo, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing where it is left
	defer cancel()
	for object := range s.client.Client.ListObjects(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: versions}) {
		if object.Err != nil {
			return nil, object.Err
		}
		if !object.IsDeleteMarker {
			found = append(found, object)
		}
	}
	return found, nil
}

// anchor reads what an object's name says, and until when it is locked.
func (s *Store) anchor(ctx context.Context, service, prefix string, object minio.ObjectInfo) (lifecycle.Anchor, error) {
	a := lifecycle.Anchor{Service: service, At: object.LastModified}
	epoch, name, _ := strings.Cut(strings.TrimPrefix(object.Key, prefix), "/")
	sequence, chain, _ := strings.Cut(strings.TrimSuffix(name, ".json"), "-")
	var err, err2 error
	a.Epoch, err = strconv.ParseInt(epoch, 10, 64)
	a.Sequence, err2 = strconv.ParseInt(sequence, 10, 64)
	a.Chain = lifecycle.Digest(chain)
	if err != nil || err2 != nil || !a.Chain.Valid() || a.Epoch < 1 || a.Sequence < 1 {
		return a, corrupt(object.Key, "it is no anchor of a ledger")
	}
	// The headers say it, too, and in one way: servers differ in the XML of GetObjectRetention.
	version := object.VersionID
	if version == "null" { // the bucket keeps none
		version = ""
	}
	info, err := s.client.StatObject(ctx, s.cfg.Bucket, object.Key, minio.StatObjectOptions{VersionID: version})
	if err != nil {
		return a, fault(ctx, err, "read until when anchor %d of %s is locked", a.Sequence, service)
	}
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err == nil && info.Metadata.Get("X-Amz-Object-Lock-Mode") == string(minio.Compliance) {
		a.Locked = until
	}
	return a, nil
}
