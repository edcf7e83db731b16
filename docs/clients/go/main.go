// Command tresor-client TENANT PROVIDER: for each line `ORDER OFFICE` on standard input, tells which credential the order gets.
//
// It logs in nowhere, and prints no secret.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	v1 "example.com/tresor-client/credentials"
)

func main() {
	tenant, provider := os.Args[1], os.Args[2]
	vault, err := FromEnvironment(func(what string) { fmt.Println("changed: " + what) })
	if err != nil {
		log.Fatal(err)
	}
	defer vault.Close()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		order, office, _ := strings.Cut(lines.Text(), " ")
		found, fromCache, err := vault.Credential(context.Background(), tenant, provider, &v1.Order{OrderId: order, OfficeId: office})
		var refusal *Refusal
		switch {
		case errors.As(err, &refusal):
			fmt.Printf("%s: %s\n", order, whatToDo(refusal))
		case errors.Is(err, ErrForged):
			fmt.Printf("%s: FORGED: %s\n", order, err)
		case err != nil:
			log.Fatal(err)
		case fromCache:
			fmt.Printf("%s: %s v%d from the cache\n", order, found.Path, found.Version)
		default:
			// Here an order service logs in with `found.Secret`.
			fmt.Printf("%s: %s v%d from the vault\n", order, found.Path, found.Version)
		}
	}
}

// Programs go by the reason; the text is for people.
func whatToDo(refusal *Refusal) string {
	switch refusal.Reason {
	case "CREDENTIAL_NOT_CONFIGURED", "CREDENTIAL_DISABLED", "CREDENTIAL_EXPIRED":
		return refusal.Reason + ": an administrator has to see to " + refusal.Metadata["path"]
	case "ORDER_LACKS_OFFICE", "ORDER_LACKS_APPRAISER", "ORDER_LACKS_USER":
		return refusal.Reason + ": the order has to say more"
	default:
		return refusal.Error()
	}
}
