package main

import (
	"sync"
	"time"
)

// What was asked: everything that the answer depends on, and the order.
type question struct{ tenant, provider, order, office, createdInOffice, appraiser, user string }

type kept struct {
	credential *Credential
	ends       time.Time
}

// Of a tenant (provider is empty) or of one of its providers.
type place struct{ tenant, provider string }

// Answers, as long as the vault lets them be kept and tells of no change.
type cache struct {
	mutex sync.Mutex
	kept  map[question]kept
	// The newest change of each place.
	changes map[place]uint64
}

func newCache() *cache {
	return &cache{kept: map[question]kept{}, changes: map[place]uint64{}}
}

func (c *cache) get(asked question) *Credential {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found, ok := c.kept[asked]; ok && time.Now().Before(found.ends) {
		return found.credential
	}
	return nil
}

func (c *cache) keep(asked question, credential *Credential, span time.Duration, revision uint64) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	now := time.Now()
	for other, found := range c.kept {
		if !now.Before(found.ends) {
			delete(c.kept, other)
		}
	}
	// An answer that was under way when a change was told may be from before it.
	newest := max(c.changes[place{asked.tenant, ""}], c.changes[place{asked.tenant, asked.provider}])
	if revision >= newest && span > 0 {
		c.kept[asked] = kept{credential, now.Add(span)}
	}
}

// Drops what is kept of the provider. Not only the credential that has changed: an order that got the general one may now get
// its office's.
func (c *cache) drop(tenant, provider string, revision uint64) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for asked := range c.kept {
		if asked.tenant == tenant && asked.provider == provider {
			delete(c.kept, asked)
		}
	}
	c.changes[place{tenant, provider}] = revision
}

// Drops what is kept of the tenant.
func (c *cache) dropAll(tenant string, revision uint64) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for asked := range c.kept {
		if asked.tenant == tenant {
			delete(c.kept, asked)
		}
	}
	// After a restore from a backup, revisions begin anew.
	for changed := range c.changes {
		if changed.tenant == tenant {
			delete(c.changes, changed)
		}
	}
	c.changes[place{tenant, ""}] = revision
}
