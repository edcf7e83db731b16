package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// How long until the keys may be read again, so that nobody makes us read them for each forged answer.
const keysAtMostEvery = time.Second

// The vault's public keys; they are read again when an answer names one that is not there.
type signingKeys struct {
	read   func(context.Context) (string, error)
	mutex  sync.Mutex
	keys   map[string]ed25519.PublicKey
	readAt time.Time
}

// Verifies a token (JWS, compact) that one of the keys has signed as this type, and reads its payload.
func (s *signingKeys) verify(ctx context.Context, token, typ string, payload any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fmt.Errorf("%w: it is no signed token", ErrForged)
	}
	var header struct{ Alg, Typ, Kid string }
	if err := decode(parts[0], &header); err != nil {
		return err
	}
	// The one algorithm that the vault uses; what the token says of others is not listened to.
	if header.Alg != "EdDSA" || header.Typ != typ {
		return fmt.Errorf("%w: it is signed as something else", ErrForged)
	}
	key, err := s.find(ctx, header.Kid)
	if err != nil {
		return err
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), signature) {
		return fmt.Errorf("%w: the signature does not verify", ErrForged)
	}
	return decode(parts[1], payload)
}

func (s *signingKeys) find(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, ok := s.keys[kid]; !ok && time.Since(s.readAt) >= keysAtMostEvery {
		jwks, err := s.read(ctx)
		if err != nil {
			return nil, err
		}
		var set struct {
			Keys []struct{ Kty, Crv, Kid, X string }
		}
		if err := json.Unmarshal([]byte(jwks), &set); err != nil {
			return nil, fmt.Errorf("the signing keys cannot be read: %w", err)
		}
		s.keys, s.readAt = map[string]ed25519.PublicKey{}, time.Now()
		for _, key := range set.Keys {
			raw, err := base64.RawURLEncoding.DecodeString(key.X)
			if key.Kty == "OKP" && key.Crv == "Ed25519" && err == nil && len(raw) == ed25519.PublicKeySize {
				s.keys[key.Kid] = raw
			}
		}
	}
	key, ok := s.keys[kid]
	if !ok {
		return nil, fmt.Errorf("%w: the vault has no key of that name", ErrForged)
	}
	return key, nil
}

func decode(part string, into any) error {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%w: it is no signed token", ErrForged)
	}
	return nil
}
