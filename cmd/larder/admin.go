package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"larder/admin"

	"github.com/spf13/cobra"
)

// adminDefault is where serve listens for operators unless told otherwise.
const adminDefault = "http://127.0.0.1:9001"

// operator is what all commands of `larder admin` share.
type operator struct {
	address string // --admin
	asJSON  bool   // --json
}

func adminCommand() *cobra.Command {
	o := &operator{}
	cmd := &cobra.Command{Use: "admin", Short: "look at and change a running realm"}
	address := adminDefault
	if env, ok := os.LookupEnv("LARDER_ADMIN"); ok && env != "" {
		address = env
	}
	cmd.PersistentFlags().StringVar(&o.address, "admin", address, "admin address of a node, host:port or URL; also LARDER_ADMIN")
	cmd.PersistentFlags().BoolVar(&o.asJSON, "json", false, "print what the node answered, as JSON")
	cmd.AddCommand(
		show(o, "status", "how the whole ring is, in one word and in figures", "/v1/status", printStatus),
		show(o, "nodes", "the nodes of the ring", "/v1/nodes", printNodes),
		show(o, "ring", "this node's leaf set, routing table and lookups", "/v1/ring", printRing),
		show(o, "partitions", "who keeps the records", "/v1/partitions", printPartitions),
		o.objectCommand(), o.ticketCommand(), o.repairCommand(), o.scrubCommand(),
		group("bucket", "buckets", show(o, "list", "all buckets", "/v1/buckets", printBuckets)),
		group("user", "users of the realm", o.userAdd(), show(o, "list", "all users", "/v1/users", printUsers), o.remove("user", "NAME", "/v1/users/")),
		group("key", "access keys", o.keyAdd(), o.keyList(), o.remove("access key", "KEYID", "/v1/keys/")),
	)
	return refuseUnknown(cmd)
}

// group is a command that has others.
func group(name, short string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short}
	cmd.AddCommand(subcommands...)
	return refuseUnknown(cmd)
}

// refuseUnknown makes a command that has others fail where it is given none of them: cobra would show its help and succeed.
func refuseUnknown(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return fmt.Errorf("%s: no such command: %s (see %[1]s --help)", cmd.CommandPath(), args[0])
	}
	return cmd
}

// show is a command that fetches a T and prints it.
func show[T any](o *operator, name, short, path string, text func(io.Writer, T)) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return fetch(cmd, o, http.MethodGet, path, nil, text)
	}}
}

// fetch sends one request and prints its answer.
func fetch[T any](cmd *cobra.Command, o *operator, method, path string, body any, text func(io.Writer, T)) error {
	c, err := newAdminClient(o.address)
	if err != nil {
		return err
	}
	var answer T
	raw, err := c.do(cmd.Context(), method, path, body, &answer)
	if err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(cmd.OutOrStdout(), raw)
	}
	text(cmd.OutOrStdout(), answer)
	return nil
}

func (o *operator) objectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "object BUCKET KEY", Short: "where an object's bytes are", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/object?" + url.Values{"bucket": {args[0]}, "key": {args[1]}}.Encode()
			return fetch(cmd, o, http.MethodGet, path, nil, printObject)
		},
	}
}

func (o *operator) ticketCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ticket", Short: "print a ticket that admits other machines for a day (larder serve --ticket FILE)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fetch(cmd, o, http.MethodPost, "/v1/ticket", nil, func(w io.Writer, t admin.Ticket) { fmt.Fprintln(w, t.Ticket) })
		},
	}
}

func (o *operator) repairCommand() *cobra.Command {
	return &cobra.Command{
		Use: "repair", Short: "begin a repair pass on this node now", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fetch(cmd, o, http.MethodPost, "/v1/repair", nil, func(w io.Writer, s admin.Started) {
				fmt.Fprintf(w, "node %s looks at all its fragments now; larder admin status tells how far it is\n", admin.Short(s.Node))
			})
		},
	}
}

func (o *operator) userAdd() *cobra.Command {
	var q admin.NewUser
	cmd := &cobra.Command{
		Use: "add NAME", Short: "make a user with one access key, and print it once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			return fetch(cmd, o, http.MethodPost, "/v1/users", &q, printKey)
		},
	}
	keyFlags(cmd, &q.AccessKey, &q.SecretKey)
	cmd.Flags().StringVar(&q.Role, "role", admin.RoleUser, "admin or user")
	cmd.Flags().StringVar(&q.Quota, "quota", "", "bytes that the user may store (not yet)")
	return cmd
}

func (o *operator) keyAdd() *cobra.Command {
	var q admin.NewKey
	cmd := &cobra.Command{
		Use: "add NAME", Short: "make one more access key of a user, and print it once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.User = args[0]
			return fetch(cmd, o, http.MethodPost, "/v1/keys", &q, printKey)
		},
	}
	keyFlags(cmd, &q.AccessKey, &q.SecretKey)
	return cmd
}

func keyFlags(cmd *cobra.Command, access, secret *string) {
	cmd.Flags().StringVar(access, "access-key", "", "access key (default: drawn)")
	cmd.Flags().StringVar(secret, "secret-key", "", "secret key (default: drawn)")
}

func (o *operator) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "access keys of a user, or of all", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/keys"
			if len(args) == 1 {
				path += "?" + url.Values{"user": args}.Encode()
			}
			return fetch(cmd, o, http.MethodGet, path, nil, printKeys)
		},
	}
}

// remove is a command that deletes what is called by its argument under path.
func (o *operator) remove(what, argument, path string) *cobra.Command {
	return &cobra.Command{
		Use: "remove " + argument, Short: "remove a " + what, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return fmt.Errorf("%s is empty", argument)
			}
			return fetch(cmd, o, http.MethodDelete, path+url.PathEscape(args[0]), nil, func(w io.Writer, _ admin.Done) {
				fmt.Fprintf(w, "removed %s %s\n", what, args[0])
			})
		},
	}
}
