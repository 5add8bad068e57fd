// Made from api/openapi.json by `npm run types`. Not edited by hand.

export interface paths {
    "/alert-rules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What is watched, and how it is set. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["AlertRuleInfo"][];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/alert-rules/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Sets a rule, for the whole cluster. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["AlertRule"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RuleSettings"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["AlertRuleInfo"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        /** Sets a rule back to what it is by default. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["AlertRule"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["AlertRuleInfo"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/alerts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Alerts about what the caller may see, newest first: active ones, or with `state` those that are over. */
        get: {
            parameters: {
                query?: {
                    /** @description Alerts per page, 1 to 1000; 100 where absent. */
                    limit?: number;
                    /** @description `next_cursor` of the page before. */
                    cursor?: components["schemas"]["AlertId"];
                    /** @description Active ones where absent. */
                    state?: components["schemas"]["AlertState"];
                    /** @description Only alerts at least this grave. */
                    severity?: components["schemas"]["Severity"];
                    /** @description Only alerts of this rule. */
                    rule?: components["schemas"]["AlertRule"];
                    /** @description Only alerts about this object: `kind/id`. */
                    target?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Alert"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/alerts/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An alert. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["AlertId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Alert"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/alerts/{id}/acknowledge": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Takes note of an alert, for all to see. It stays until what is wrong is right. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["AlertId"];
                };
                cookie?: never;
            };
            requestBody?: {
                content: {
                    "application/json": components["schemas"]["AcknowledgeAlert"] | null;
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Alert"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/alerts/{id}/silence": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Lets nobody be notified of an alert for some time; 0 minutes end that. If it is over and comes again within the time, it is
         *     silent too.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["AlertId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["SilenceAlert"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Alert"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Every change asked for at this host, newest first: by whom, from where, and what became of it. */
        get: {
            parameters: {
                query?: {
                    /** @description Records per page, 1 to 1000; 100 where absent. */
                    limit?: number;
                    /** @description `next_cursor` of the page before. */
                    cursor?: components["schemas"]["AuditId"];
                    /** @description Only of this user. */
                    user?: components["schemas"]["UserId"];
                    /** @description Only of actors whose name contains this. */
                    actor?: string;
                    /** @description Only actions that begin with this, e.g. `vm.`. */
                    action?: string;
                    /** @description Only of this object (`kind/id`) or kind. */
                    target?: string;
                    /** @description Only with this outcome. */
                    outcome?: components["schemas"]["AuditOutcome"];
                    /** @description Only at or after this time. */
                    since?: string;
                    /** @description Only before this time. */
                    until?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_AuditRecord"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The cluster as this host sees it. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Cluster"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/backups": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Backups of the state on this host, newest first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["StateBackup"][];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a backup of the state on this host, now. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["StateBackup"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/backups/{id}/content": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * The file of a backup. It holds every secret of the cluster: hashes of passwords, keys of sessions, the key of its authority
         *     and that of this host.
         */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/octet-stream": number[];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/balance": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Says who decides about moves for balance, and how many machines move at a time. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["BalanceSpec"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["BalanceSpec"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/ha": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** High availability: what is wanted, how every host and every protected machine stands, and why. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["HaStatus"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        /** Arms or disarms high availability. Disarmed, machines of a lost host wait for it; leases go on all the same. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["HaSpec"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["HaSpec"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/join": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * This host joins the token's cluster with everything it has; machines that run go on running. Its users, passwords and
         *     tokens end: from then on those of the cluster hold. Answered with what was done; the daemon then starts again.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["JoinCluster"];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["JoinPreview"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/join-tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Join tokens, without their texts. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["JoinToken"][];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a join token. Its text is shown this once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: {
                content: {
                    "application/json": components["schemas"]["CreateJoinToken"] | null;
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CreatedJoinToken"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/join-tokens/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Revokes a join token at once. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["TokenId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/join/preview": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** What it would mean for this host to join the token's cluster. Nothing is changed. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["JoinCluster"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["JoinPreview"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/pair": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Brings in a waiting host by the code on its console, with everything it has. Its users, passwords and tokens end. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PairHost"];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/pairing": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** How this host stands to being paired, with the code on its console. Of the host that is asked, always. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Pairing"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        /** Lets this host wait for an hour although it has machines, volumes or images of its own, or ends that. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["OpenPairing"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Pairing"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/recommendations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * How the hosts are loaded, and which machines would better run elsewhere. To follow a recommendation:
         *     `POST /vms/{id}/migrate` with the host it names.
         */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Balance"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/reform": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What forming the cluster anew from this host would mean. Nothing is changed. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ReformPreview"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /**
         * Forms the cluster anew from this host, without the hosts that are lost: it is the only voter, under a new epoch, by its own
         *     log. Hosts that are lost are refused from then on, and come back by joining anew; machines placed on them stay placed
         *     there and are not started elsewhere. Only without a majority, and only for root on this host or in a session begun at it
         *     while there was none. Answered with what was done; the daemon then starts again.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ReformCluster"];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["NewEpoch"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/restore": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Brings back a backup of the state under a new epoch, on a host that is alone and has nothing of its own, or whose cluster was
         *     formed anew. The body is the file. Every other host of the backup is lost until it joins again. Sessions and join tokens do
         *     not come back; passwords and API tokens are those of the backup. Answered with what was done; the daemon then starts again.
         */
        post: {
            parameters: {
                query: {
                    /** @description Name of this host, whose state is replaced. */
                    confirm: string;
                    /** @description As whom this host takes the state over. */
                    as?: "itself" | "origin";
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/octet-stream": number[];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Restored"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/time": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The time servers, and how the clock of every host follows them. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Time"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        /** Says which servers the clocks follow. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["TimeSpec"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["TimeSpec"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * How much the hosts and machines the caller may see did: sums over time, each host, and the machines that did most. A machine
         *     counts where it is; what it did on another host before is not asked for.
         */
        get: {
            parameters: {
                query?: {
                    /** @description How far back; an hour where absent. */
                    span?: components["schemas"]["Span"];
                    /** @description How many machines of each kind of load, 1 to 100; 10 where absent. */
                    top?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Usage"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cluster/waiting": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Hosts that wait to be paired on the network of this host. A look takes a second; what is found is not proven. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["WaitingHosts"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Events, newest first. The last 10,000 are remembered. */
        get: {
            parameters: {
                query?: {
                    /** @description Events per page, 1 to 1000; 100 where absent. */
                    limit?: number;
                    /** @description `next_cursor` of the page before. */
                    cursor?: components["schemas"]["EventId"];
                    /** @description Only events of this object: `kind/id`. */
                    target?: string;
                    /** @description Only kinds that begin with this. */
                    kind?: string;
                    /** @description Only events at least this grave. */
                    level?: components["schemas"]["EventLevel"];
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Event"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/events/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Events from now on, as server-sent events: `data` is an event in JSON. A follower that is too slow misses some and gets
         *     the event `missed` with their number.
         */
        get: {
            parameters: {
                query?: {
                    /** @description Events per page, 1 to 1000; 100 where absent. */
                    limit?: number;
                    /** @description `next_cursor` of the page before. */
                    cursor?: components["schemas"]["EventId"];
                    /** @description Only events of this object: `kind/id`. */
                    target?: string;
                    /** @description Only kinds that begin with this. */
                    kind?: string;
                    /** @description Only events at least this grave. */
                    level?: components["schemas"]["EventLevel"];
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/event-stream": components["schemas"]["Event"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/groups": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Groups; without `user.read` only one's own. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Group"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a group. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateGroup"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Group"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/groups/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A group. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["GroupId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Group"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a group. Its members stay, without what it granted. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["GroupId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a group. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["GroupId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateGroup"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Group"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/hosts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Hosts of the cluster. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Host"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A host. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Host"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Removes a host from the cluster for ever: its id and its key never come back. What runs on it runs on. */
        delete: {
            parameters: {
                query?: {
                    /**
                     * @description Give up what only this host holds: its machines, volumes and images. Without it a host that holds anything is not
                     *     removed.
                     */
                    force?: boolean;
                };
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a host's name and labels. The name holds from then on, whatever the host calls itself. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MetadataPatch"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Host"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/hosts/{id}/bmc": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The BMC of a host, and how it does. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Bmc"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        /**
         * Sets the BMC of a host: with it the host is proven to be off when it is lost, and its protected machines are started elsewhere
         *     sooner. Test the settings before.
         */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["SetBmc"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Bmc"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        /** Forgets the BMC of a host. When the host is lost, its machines wait for their leases to end. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/bmc/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Asks the BMC of a host for its power, with these settings or those that are kept, from the host that leads or, where that is the
         *     very host, from another. Nothing is switched. A certificate that the settings do not name is answered, and is sent no password.
         *     Takes up to half a minute.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["TestBmc"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["BmcTest"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/certificate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes a new certificate for the API and the page. The daemon starts again with it; machines and sessions go on. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewCertificate"];
                };
            };
            responses: {
                /** @description The daemon starts again; the console shows the new fingerprint */
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/confirm-off": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Says for certain that a silent host is off: its protected machines are started elsewhere at once, without waiting for its
         *     lease to end. Said of a host that still runs, machines would run twice; of one that answers it is refused.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Noted */
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/factory-reset": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Erases what a host has kept, and its images and volumes too if wanted, and restarts it. Its guests are stopped first. Where
         *     it is one of several it should be removed from the cluster before; the others keep its name and id else.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["FactoryReset"];
                };
            };
            responses: {
                /** @description It restarts and begins anew */
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** How much a host did. */
        get: {
            parameters: {
                query?: {
                    /** @description How far back; an hour where absent. */
                    span?: components["schemas"]["Span"];
                    /** @description Names of metrics, with commas between; all where absent. */
                    metric?: string;
                };
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["MetricHistory"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/maintenance": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Puts a host in maintenance, or ends it. In maintenance no machine is placed or started on it; the task moves those that run
         *     there to other hosts, one result each. With `shut_down` those that cannot be moved are shut down; else they run on, and the
         *     task fails. The host is in maintenance in any case, across restarts, until it is ended.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["HostMaintenance"];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/network": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The management network of a host. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ManagementNetwork"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        /**
         * Tries other settings of the management network. The host takes them back by itself unless they are kept in time; nothing
         *     is written down before that.
         */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["TryNetwork"];
                };
            };
            responses: {
                /** @description They come into force */
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ManagementNetwork"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/network/keep": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Keeps the settings on trial. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ManagementNetwork"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/network/revert": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Takes back the settings on trial. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ManagementNetwork"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/network/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Whether the management network works, seen from the host. Takes some seconds where something does not answer. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["NetworkTest"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/power": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Restarts a host or switches it off. Its guests are asked to power off first. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["HostPower"];
                };
            };
            responses: {
                /** @description It is going down */
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/removable": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The removable drives plugged into a host: where a file of it can be written to, and where not and why. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["RemovableDrives"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/hosts/{id}/support-bundle": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What somebody needs to understand a host they cannot look at: logs, inventory, the objects of the cluster; without secrets. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A tar archive */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/gzip": number[];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /**
         * Writes the support bundle to a removable drive of the host. Nothing half written is left on it; once this answers it can be
         *     pulled out.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["HostId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["WriteSupportBundle"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["SupportBundleWritten"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/identity-providers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Identity providers. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Provider"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes an identity provider: one can log in by it at once, if it is enabled. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateProvider"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Provider"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/identity-providers/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An identity provider. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ProviderId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Provider"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes an identity provider and its users, with their sessions and tokens. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ProviderId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes an identity provider. Switched off, the sessions and tokens of its users end. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ProviderId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateProvider"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Provider"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/identity-providers/{id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Tries an identity provider, from the host that was asked: whether it can be asked, whether it finds a user, whether a password
         *     is theirs. Nobody is logged in by it. Takes up to half a minute.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ProviderId"];
                };
                cookie?: never;
            };
            requestBody?: {
                content: {
                    "application/json": components["schemas"]["TestProvider"] | null;
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ProviderTest"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/images": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Images. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Image"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Declares an image; its content follows. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateImage"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Image"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/images/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An image. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ImageId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Image"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes an image nothing uses. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ImageId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes name and labels. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ImageId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MetadataPatch"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Image"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/images/{id}/content": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Uploads the content, as a stream of any length. With `Content-Length` the room for it is checked first. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ImageId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/octet-stream": number[];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Image"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/networks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Networks. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Network"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a network. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateNetwork"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Network"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/networks/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A network. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["NetworkId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Network"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a network no machine is connected to. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["NetworkId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a network. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["NetworkId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateNetwork"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Network"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/notification-channels": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Notification channels. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Channel"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a notification channel. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateChannel"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Channel"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/notification-channels/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A notification channel. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ChannelId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Channel"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a notification channel, with what waits for it. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ChannelId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a notification channel. One that failed is tried again at once. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ChannelId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateChannel"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Channel"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/notification-channels/{id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sends a test to a channel, from the host that was asked, and says what came of it. Takes up to half a minute. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ChannelId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ChannelTest"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/permissions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Every permission there is, explained. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PermissionInfo"][];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/placement": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Where a machine would be placed if it were made or moved now, and why not elsewhere. Of hosts the caller may not see nothing is
         *     said. Nothing is changed.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PlacementQuery"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PlacementDecision"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/pools": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Storage pools. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Pool"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a shared pool. Every host mounts it; how each stands to it is in its `hosts`. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreatePool"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Pool"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/pools/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A storage pool. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["PoolId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Pool"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a shared pool nothing is in. The directory is free for another pool afterwards. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["PoolId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes name and labels. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["PoolId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MetadataPatch"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Pool"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/pools/{id}/foreign/adopt": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes a volume or an image of a file that belongs to no object. It keeps its place and its id; a clone needs its image first. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["PoolId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AdoptFile"];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/pools/{id}/foreign/delete": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Deletes a file that belongs to no object, for ever. To name it is to confirm it. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["PoolId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["DeleteForeign"];
                };
            };
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/roles": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Roles; without `user.read` only those one has. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Role"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a role. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateRole"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Role"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/roles/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A role. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["RoleId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Role"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a role nobody has. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["RoleId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a role, for all who have it. Not a built-in one. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["RoleId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateRole"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Role"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who am I, and what may I do. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Identity"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Logs in. The answer carries the session's tokens, and the cookies `lq_session` and `lq_refresh` for browsers. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["Login"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Session"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        /** Logs out: the session ends. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/oidc": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Logs in with the code a browser came back with from an identity provider. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["OidcFinish"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Session"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/oidc/start": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Begins to log in at the page of an identity provider. For browsers: the answer sets a cookie, and the provider sends the browser
         *     back to `/oidc` of the address the page was opened by.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["OidcStart"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["OidcRedirect"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Changes one's own password. All other sessions of the user end. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ChangePassword"];
                };
            };
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/realms": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Ways to log in: the cluster's own users, directories, and providers at whose own page one logs in. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Realm"][];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/refresh": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * The next access token, for a refresh token, which is used up by that. In a browser the cookie is taken. A used up token
         *     presented again ends the session; for 30 seconds it is answered without a new refresh token, because requests of one
         *     browser cross each other.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: {
                content: {
                    "application/json": components["schemas"]["Refresh"] | null;
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Session"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/settings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the caller keeps for themselves; nothing for root on the host. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["UserSettings"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        /** Replaces what the caller keeps for themselves. It takes a login: a token is not the one who looks at lists. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ReplaceUserSettings"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["UserSettings"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/totp": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A secret for one's authenticator, for the password. Logging in asks for one-time codes once a first one was confirmed. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["EnrolTotp"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["TotpEnrolment"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/totp/confirm": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Confirms that the authenticator has the secret. Answers with recovery codes, shown this once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ConfirmTotp"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["RecoveryCodes"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/totp/remove": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Logging in asks for no one-time codes any more. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RemoveTotp"];
                };
            };
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Sessions; without `user.read` only one's own. `name` is the user's. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_SessionInfo"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/sessions/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Ends a session at once. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["SessionId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/setup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whether the first password is still to be set. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Setup"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes the user `admin`, with the code shown on the host's console, and logs in. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["SetupRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Session"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tasks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Tasks of every host that answers, newest first. Each host remembers its last 1000. */
        get: {
            parameters: {
                query?: {
                    /** @description Tasks per page, 1 to 1000; 100 where absent. */
                    limit?: number;
                    /** @description `next_cursor` of the page before. */
                    cursor?: components["schemas"]["TaskId"];
                    /** @description Only tasks in this state. */
                    state?: components["schemas"]["TaskState"];
                    /** @description Only tasks of this object: `kind/id`. */
                    target?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tasks/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A task. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["TaskId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tasks/{id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Ends a task early. What it waited for may still happen. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["TaskId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** API tokens, without their secrets; without `user.read` only one's own. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Token"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a token. Its secret is shown this once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateToken"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CreatedToken"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tokens/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Revokes a token at once. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["TokenId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/users": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Users; without `user.read` only oneself. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_User"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a user. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateUser"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["User"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/users/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A user. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["User"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a user, their sessions and tokens. Not the last administrator. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a user. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateUser"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["User"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/users/{id}/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sets the password of another user. Their sessions end. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["SetPassword"];
                };
            };
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/users/{id}/totp": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Takes the second factor of another user away, who has lost it. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Machines. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Vm"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a machine. With `spec.power` `running` it is started at once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateVm"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Vm"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A machine. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Vm"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a stopped machine. Its volumes stay. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a machine, also while it runs; what waits is said in `status.pending`. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateVm"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Vm"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/vms/{id}/console": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The serial console, by WebSocket. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description WebSocket; binary frames are the line's bytes, scroll-back first */
                101: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/display": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The screen, by WebSocket. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description WebSocket; binary frames are the bytes of an RFB 3.8 (VNC) connection */
                101: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** How much a machine did on this host. */
        get: {
            parameters: {
                query?: {
                    /** @description How far back; an hour where absent. */
                    span?: components["schemas"]["Span"];
                    /** @description Names of metrics, with commas between; all where absent. */
                    metric?: string;
                };
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["MetricHistory"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/migrate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Moves a machine to another host: one that runs while it runs, one at rest by giving it to the other host, if what it has is
         *     reached from there. The task can be cancelled until the machine changes hands. Refused before anything is sent where the other
         *     host cannot take the machine, with the reason; whether its processor has what the guest was told to have is found out
         *     before any memory is sent, and fails the task. Scroll-back of the serial console begins anew on the new host.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: {
                content: {
                    "application/json": components["schemas"]["MigrateVm"] | null;
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Halts the virtual CPUs of a running machine. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/reset": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Resets a running machine as its reset button does. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Lets a paused machine go on. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/start": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Starts a machine. Running already: done. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/stats": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Counters of a running machine since its start. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Stats"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms/{id}/stop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Stops a machine: the power button, and after the timeout by force. Stopped already: done. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VmId"];
                };
                cookie?: never;
            };
            requestBody?: {
                content: {
                    "application/json": components["schemas"]["StopVm"] | null;
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/volumes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Volumes. */
        get: {
            parameters: {
                query?: {
                    /** @description Objects per page, 1 to 1000; 100 where absent. */
                    limit?: number | null;
                    /** @description `next_cursor` of the page before. */
                    cursor?: string | null;
                    /** @description Only objects with exactly this name. */
                    name?: string | null;
                    /** @description Only objects with these labels: `key=value`, several separated by commas. */
                    label?: string | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_Volume"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a volume, empty or as a clone of an image. It is `creating` at first; wait for `ready` or `failed`. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateVolume"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Volume"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/volumes/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A volume. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VolumeId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Volume"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Deletes a volume no machine has, and what is on it. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VolumeId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes name and labels. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VolumeId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MetadataPatch"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Volume"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/volumes/{id}/grow": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Grows a volume no running machine uses. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["VolumeId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["GrowVolume"];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Task"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/watch": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Changes of objects, as server-sent events named after the object's kind (`vm`, `image`, …), the event's id being the
         *     revision to go on from. Several changes of one object may come as one. Status of hosts, room in pools and leased addresses are
         *     not watched; of a user the user's own record, not what groups and roles give them. An object that leaves what the caller may see comes as one that is gone. Where `since` is too long ago the answer is 409: read the lists anew.
         * @description Events named `task` are about tasks, of every host that is reached and at most four a second of each. Tasks are in no log: told is what
         *     happens from the beginning of the answer on, so their list is read after that, each time the watch begins anew. What the list had may come once more.
         */
        get: {
            parameters: {
                query?: {
                    /** @description Changes after this revision, e.g. the `revision` of a list; from now on where absent. */
                    since?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/event-stream": components["schemas"]["Notice"];
                    };
                };
                /** @description Refused or failed: why, and what to do */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description `POST /alerts/{id}/acknowledge`. */
        AcknowledgeAlert: {
            /** @description At most 500 characters. */
            comment?: string;
        };
        /** @description Someone has taken note of an alert. */
        Acknowledgement: {
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description Who. */
            by: string;
            /** @description What they said. */
            comment?: string;
        };
        /** @description Makes a volume or an image of a foreign file. It keeps its place and its id. */
        AdoptFile: {
            /** @description The file, as `foreign` names it. */
            file: string;
            format?: components["schemas"]["ImageFormat"] | null;
            kind?: components["schemas"]["ImageKind"] | null;
            /** @description Its labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Name of the volume or image. */
            name: string;
        };
        /** @description Machines another one is to be near to, or apart from. */
        Affinity: {
            /** @description Those with this label, `key=value`. */
            label: string;
            /** @description Rather not at all than otherwise. Where absent it is only preferred. */
            strict?: boolean;
        };
        /** @description Something that is wrong, or was. */
        Alert: {
            acknowledged?: components["schemas"]["Acknowledgement"] | null;
            /**
             * Format: date-time
             * @description When severity or message last changed.
             */
            changed_at: string;
            /** @description Identity; ordered by time. */
            id: components["schemas"]["AlertId"];
            /** @description Known only to the host that answered: the cluster takes no changes. */
            local?: boolean;
            /** @description What is wrong and what to do. */
            message: string;
            /** @description Which part of the object, e.g. a disk. */
            part?: string | null;
            /**
             * Format: date-time
             * @description When it was raised.
             */
            raised_at: string;
            /**
             * Format: date-time
             * @description When it was over; absent while it is not.
             */
            resolved_at?: string | null;
            /** @description The rule that raised it. */
            rule: components["schemas"]["AlertRule"];
            /** @description How grave it is. */
            severity: components["schemas"]["Severity"];
            silenced?: components["schemas"]["Silence"] | null;
            source?: components["schemas"]["HostId"] | null;
            /** @description About which object: `kind/id`, or `cluster`. */
            target: string;
            /** @description The name that object had when the alert was raised. */
            target_name: string;
        };
        /**
         * Format: uuid
         * @description An alert.
         */
        AlertId: string;
        /**
         * @description What is watched.
         * @enum {string}
         */
        AlertRule: "host-lost" | "quorum-at-risk" | "quorum-lost" | "pool-filling" | "pool-unreachable" | "disk-failing" | "certificate-expiring" | "clock-off" | "vm-failed" | "host-degraded" | "memory-pressure" | "backup-failed" | "bmc-unreachable" | "channel-failing";
        /** @description A rule with its settings. */
        AlertRuleInfo: {
            /** @description How it is set where nobody changed it. */
            defaults: components["schemas"]["RuleSettings"];
            /** @description When it raises an alert. */
            description: string;
            /** @description Which. */
            id: components["schemas"]["AlertRule"];
            /** @description How it is set. */
            settings: components["schemas"]["RuleSettings"];
            /** @description What people call it. */
            title: string;
            unit?: components["schemas"]["RuleUnit"] | null;
        };
        /**
         * @description Which alerts are wanted.
         * @enum {string}
         */
        AlertState: "active" | "resolved" | "all";
        /**
         * Format: uuid
         * @description A record of the audit log.
         */
        AuditId: string;
        /**
         * @description What became of it.
         * @enum {string}
         */
        AuditOutcome: "done" | "refused" | "failed";
        /** @description One request that was to change something, or an attempt to log in. */
        AuditRecord: {
            /** @description What, e.g. `vm.start`, `user.create`, `session.create`. */
            action: string;
            /** @description Who, in words: `admin`, `admin (token backup)`, `root (local)`; the name that was claimed, where nobody logged in. */
            actor: string;
            /**
             * Format: date-time
             * @description When it was answered.
             */
            at: string;
            /** @description Why it was not done. */
            detail?: string | null;
            /** @description From where: an address, or `this host (uid 0)`. */
            from: string;
            /** @description Host that answered it. Each host keeps the records of what it answered. */
            host: components["schemas"]["HostId"];
            /** @description Identity; ordered by time. */
            id: components["schemas"]["AuditId"];
            /** @description Whether it was done. */
            outcome: components["schemas"]["AuditOutcome"];
            /** @description Id of the request, to be found in the daemon's log. */
            request_id: string;
            /**
             * Format: int32
             * @description The HTTP status of the answer.
             */
            status: number;
            /** @description To which object: `kind/id`, or the kind alone. */
            target: string;
            /** @description Name of the object at that time, where it has one. */
            target_name?: string | null;
            user?: components["schemas"]["UserId"] | null;
        };
        /** @description What a backup is of. */
        BackupContent: {
            /**
             * Format: uuid
             * @description The cluster.
             */
            cluster: string;
            /**
             * Format: int64
             * @description Its epoch.
             */
            epoch: number;
            /** @description The host that made it. */
            host: components["schemas"]["HostId"];
            /** @description That host's name. */
            host_name: string;
            /** @description The release that made it. */
            release: string;
            /**
             * Format: int64
             * @description The last change it holds.
             */
            revision: number;
        };
        /**
         * @description Why a backup of the state was made.
         * @enum {string}
         */
        BackupReason: "nightly" | "manual" | "reform" | "removal" | "restore" | "join" | "upgrade";
        /** @description `GET /cluster/recommendations`. */
        Balance: {
            /** @description Every host. */
            hosts: components["schemas"]["BalanceHost"][];
            /** @description Moves, the best first; each is meant after those before it. */
            items: components["schemas"]["Recommendation"][];
            /** @description Why nothing is recommended, or nothing done, in words. */
            note?: string | null;
            /**
             * Format: date-time
             * @description When the leader may move the next machine, where it waits with that.
             */
            rests_until?: string | null;
            /** @description What is wanted. */
            spec: components["schemas"]["BalanceSpec"];
        };
        /** @description How much of a host is promised to machines. */
        BalanceHost: {
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /** @description Why balancing leaves it alone. */
            left_alone?: string | null;
            /**
             * Format: int32
             * @description Machines that run there or are to.
             */
            machines: number;
            /**
             * Format: int32
             * @description Promised memory, in hundredths of what it has for machines.
             */
            memory_percent: number;
            /** @description Its name. */
            name: string;
            /**
             * Format: int32
             * @description Virtual processors per hundred threads.
             */
            vcpu_percent: number;
        };
        /**
         * @description Who decides about moves for balance.
         * @enum {string}
         */
        BalanceMode: "off" | "advise" | "automatic";
        /** @description What is wanted of balancing: `PUT /cluster/balance`. */
        BalanceSpec: {
            /**
             * Format: int32
             * @description Most machines moved at a time, whoever moves them, 1 to 8.
             */
            at_once?: number;
            /** @description Who decides. */
            mode?: components["schemas"]["BalanceMode"];
        };
        /** @description A disk. */
        BlockDevice: {
            health?: components["schemas"]["DiskHealth"] | null;
            /** @description Model, where it tells one. */
            model?: string | null;
            /** @description Kernel name. */
            name: string;
            /** @description Serial number, where it tells one. */
            serial?: string | null;
            /** @description Size. */
            size_bytes: components["schemas"]["Bytes"];
        };
        /** @description The BMC of a host. `GET /hosts/{id}/bmc`. */
        Bmc: {
            spec?: components["schemas"]["BmcSpec"] | null;
            status?: components["schemas"]["BmcStatus"] | null;
        };
        /**
         * @description The power of a host, as its BMC says.
         * @enum {string}
         */
        BmcPower: "on" | "off";
        /**
         * @description How a BMC is spoken to.
         * @enum {string}
         */
        BmcProtocol: "redfish" | "ipmi";
        /** @description Where the BMC of a host is, and as whom it is spoken to. */
        BmcSpec: {
            /** @description Name or address, with a port where it is not the protocol's own: `10.0.0.7`, `bmc1.lan:8443`, `[fd00::7]:443`. */
            address: string;
            /**
             * @description SHA-256 of the certificate it presents, hexadecimal, with or without colons. No other one is trusted. Needed for Redfish; a
             *     test without it answers the one that is presented. IPMI has none.
             */
            certificate?: string | null;
            /** @description How it is spoken to. */
            protocol?: components["schemas"]["BmcProtocol"];
            /** @description Which of its systems the host is, by its id, where a BMC manages several. Not for IPMI. */
            system?: string | null;
            /** @description The user that may read the power state and switch the host off. At most 64 bytes without a colon; for IPMI 16 bytes. */
            username: string;
        };
        /** @description How a BMC does. */
        BmcStatus: {
            /**
             * Format: date-time
             * @description When it was last asked.
             */
            checked_at: string;
            /**
             * Format: date-time
             * @description Since when it does not do; absent while it does.
             */
            failing_since?: string | null;
            /** @description Why it does not, and what to do. */
            failure?: string | null;
            power?: components["schemas"]["BmcPower"] | null;
        };
        /** @description What came of a test. Nothing is switched by it. */
        BmcTest: {
            /** @description Why it could not be asked, and what to do. */
            failure?: string | null;
            /** @description What the BMC says which machine it is: see that it is the right one. */
            machine?: string | null;
            power?: components["schemas"]["BmcPower"] | null;
            /**
             * @description SHA-256 of the certificate it presented, where that is not the one in the settings: hexadecimal with colons. No password was
             *     sent to it. Compare it with what the BMC's own page or the vendor's tool shows before it is set.
             */
            presented?: string | null;
        };
        /** @description Direct Linux boot. */
        Boot: {
            /** @description Kernel command line, at most 2047 bytes. */
            cmdline?: string;
            initrd?: components["schemas"]["ImageId"] | null;
            /** @description Image of kind `kernel`: a bzImage or an ELF file with a PVH entry. */
            kernel: components["schemas"]["ImageId"];
        };
        /**
         * Format: int64
         * @description A number of bytes.
         */
        Bytes: number;
        /** @description A CD drive of a VM. */
        Cdrom: {
            image?: components["schemas"]["ImageId"] | null;
        };
        /** @description The certificate of a host's API and page. */
        Certificate: {
            /** @description SHA-256 of it, hexadecimal with colons, as browsers and the host's console show it. */
            fingerprint: string;
            /**
             * Format: date-time
             * @description When it ends; absent where it does not say so in a way that is understood.
             */
            not_after?: string | null;
        };
        /** @description `POST /session/password`: one's own. All other sessions end. */
        ChangePassword: {
            /** @description 8 characters to 256 bytes; not the present one. */
            new: string;
            /** @description The present one. */
            old: string;
        };
        /** @description A notification channel. */
        Channel: {
            /** @description It has a secret, which is never told. */
            has_secret: boolean;
            /** @description Identity. */
            meta: components["schemas"]["Metadata_ChannelId"];
            /** @description What is wanted. */
            spec: components["schemas"]["ChannelSpec"];
            /** @description How it does. */
            status: components["schemas"]["ChannelStatus"];
        };
        /**
         * Format: uuid
         * @description A notification channel.
         */
        ChannelId: string;
        /** @description What is wanted of a channel. */
        ChannelSpec: {
            /** @description Alerts are told to it. */
            enabled?: boolean;
            /** @description Only alerts at least this grave. */
            min_severity?: components["schemas"]["Severity"];
            /** @description Where to. */
            target: components["schemas"]["ChannelTarget"];
        };
        /** @description How a channel does. */
        ChannelStatus: {
            /**
             * Format: date-time
             * @description When it last took a notification.
             */
            delivered_at?: string | null;
            /**
             * Format: int64
             * @description Notifications that were given up: too many waited, or they waited longer than a day.
             */
            dropped: number;
            /**
             * Format: date-time
             * @description Since when it takes none; absent while it does.
             */
            failing_since?: string | null;
            /** @description Why it takes none. */
            failure?: string | null;
            /**
             * Format: int64
             * @description Notifications that wait for it.
             */
            waiting: number;
        };
        /**
         * @description Where alerts are told to. TLS is verified with the certificates in `ca` (PEM) alone where there are such, else with those of
         *     public authorities.
         */
        ChannelTarget: {
            /** @description Certificates that are trusted. */
            ca?: string | null;
            /** @enum {string} */
            kind: "webhook";
            /** @description `https://…`, or `http://…` inside a network that is trusted. */
            url: string;
        } | {
            /** @description Certificates that are trusted. */
            ca?: string | null;
            /** @description The sender. */
            from: string;
            /** @enum {string} */
            kind: "mail";
            /**
             * Format: int32
             * @description Its port; by the security where absent: 587 (STARTTLS), 465 (TLS) or 25.
             */
            port?: number | null;
            /** @description How the connection is protected. */
            security?: components["schemas"]["MailSecurity"];
            /** @description The mail server. */
            server: string;
            /** @description The recipients, 1 to 50. */
            to: string[];
            /** @description Who logs in; nobody where absent. */
            username?: string | null;
        } | {
            /** @description Certificates that are trusted. */
            ca?: string | null;
            /** @enum {string} */
            kind: "syslog";
            /**
             * Format: int32
             * @description Its port; 6514 (TLS) or 514 where absent.
             */
            port?: number | null;
            /** @description The server. */
            server: string;
            /** @description Over TLS. */
            tls?: boolean;
        };
        /** @description What came of a test. `POST /notification-channels/{id}/test`. */
        ChannelTest: {
            /** @description The channel took it. */
            delivered: boolean;
            /** @description Why it did not. */
            failure?: string | null;
        };
        /** @description What a guest with cloud-init (or another program that reads NoCloud media) sets itself up by. */
        CloudInit: {
            /** @description Network configuration in cloud-init's YAML, at most 64 KiB. Where absent the guest asks for addresses by DHCP. */
            network_config?: string | null;
            /** @description User data, at most 64 KiB: `#cloud-config` and YAML, or a script. Empty: the guest learns its name only. */
            user_data?: string;
        };
        /** @description State of the cluster as this host sees it. */
        Cluster: {
            /**
             * Format: int64
             * @description Grows when the cluster is formed anew after its majority was lost; 1 at first.
             */
            epoch?: number;
            formed?: components["schemas"]["Formed"] | null;
            /**
             * Format: uuid
             * @description Identity of the cluster.
             */
            id: string;
            leader?: components["schemas"]["HostId"] | null;
            lost?: components["schemas"]["QuorumLoss"] | null;
            /** @description Every host, with its part in the cluster. */
            members?: components["schemas"]["Member"][];
            outdated?: components["schemas"]["Outdated"] | null;
            /** @description Whether changes are possible: a majority of the voters is reached. */
            quorum?: boolean;
            /**
             * Format: int64
             * @description Last change applied here.
             */
            revision: number;
            /**
             * Format: int64
             * @description Term of the leader.
             */
            term: number;
            /** @description The host that answered. */
            this_host: components["schemas"]["HostId"];
            /** @description Hosts whose votes count. */
            voters: components["schemas"]["HostId"][];
            /** @description What is wrong, in words an administrator can act on. */
            warnings?: string[];
        };
        /** @description `POST /session/totp/confirm`. */
        ConfirmTotp: {
            /** @description The code the authenticator shows now. */
            code: string;
        };
        /** @description Processors. */
        Cpu: {
            /**
             * Format: int32
             * @description Cores.
             */
            cores: number;
            /** @description Features of the highest CPU model that it has not, as `/proc/cpuinfo` names them. */
            lacks?: string[];
            /** @description As it calls itself. */
            model: string;
            /**
             * Format: int32
             * @description Sockets.
             */
            sockets: number;
            /**
             * Format: int32
             * @description Logical processors.
             */
            threads: number;
            /**
             * Format: double
             * @description Share of all threads in use over the last seconds, 0 to 1.
             */
            usage: number;
        };
        /**
         * @description What a guest sees of the host's processor.
         * @enum {string}
         */
        CpuModel: "host" | "x86-64-v2" | "x86-64-v3";
        /** @description `POST /notification-channels`. */
        CreateChannel: {
            /** @description Labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique among channels. */
            name: string;
            /** @description Key of the signature, or password of the mail server, at most 1024 bytes. */
            secret?: string | null;
            /** @description What is wanted. */
            spec: components["schemas"]["ChannelSpec"];
        };
        /** @description `POST /groups`. */
        CreateGroup: {
            /** @description Labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique among groups. */
            name: string;
            /** @description Members and grants. */
            spec?: components["schemas"]["GroupSpec"];
        };
        /** @description Declares an image; its content follows by `PUT /images/{id}/content`. */
        CreateImage: {
            /** @description Its labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Its name, unique among images. */
            name: string;
            /** @description What it is. */
            spec: components["schemas"]["ImageSpec"];
        };
        /** @description `POST /cluster/join-tokens`. */
        CreateJoinToken: {
            /**
             * Format: int32
             * @description Minutes it lasts, 1 to 10080 (a week).
             */
            minutes?: number;
            /**
             * Format: int32
             * @description How many hosts may join with it, 1 to 100.
             */
            uses?: number;
        };
        /** @description Creates a network. */
        CreateNetwork: {
            /** @description Its labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Its name, unique among networks. */
            name: string;
            /** @description What is wanted. */
            spec: components["schemas"]["NetworkSpec"];
        };
        /** @description Creates a shared pool. */
        CreatePool: {
            /** @description Its labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Its name, unique among pools. */
            name: string;
            /** @description What it is. */
            spec: components["schemas"]["PoolSpec"];
        };
        /** @description `POST /identity-providers`. */
        CreateProvider: {
            /** @description Labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description The realm; unique among providers, and not `local`. */
            name: string;
            /** @description Password of the service account, or client secret, at most 1024 bytes. */
            secret?: string | null;
            /** @description What is wanted. */
            spec: components["schemas"]["ProviderSpec"];
        };
        /** @description `POST /roles`. */
        CreateRole: {
            /** @description Labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique among roles. */
            name: string;
            /** @description What it allows. */
            spec: components["schemas"]["RoleSpec"];
        };
        /** @description `POST /tokens`. */
        CreateToken: {
            /**
             * Format: int32
             * @description Days it lasts, 1 to 3650; for ever where absent.
             */
            days?: number | null;
            limit?: components["schemas"]["Grant"] | null;
            /** @description What it is for; unique among the tokens of its owner. */
            name: string;
            owner?: components["schemas"]["UserId"] | null;
            /** @description It may only read. */
            read_only?: boolean;
        };
        /** @description `POST /users`. */
        CreateUser: {
            /** @description Labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description They have to set a new password at their first login. */
            must_change_password?: boolean;
            /** @description What they log in with; unique among users. */
            name: string;
            /** @description First password, 8 characters to 256 bytes. Absent: they cannot log in until one is set. */
            password?: string | null;
            /** @description What is wanted. */
            spec?: components["schemas"]["UserSpec"];
        };
        /** @description Creates a VM. */
        CreateVm: {
            /** @description Its labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Its name, unique among VMs. */
            name: string;
            /** @description What is wanted. */
            spec: components["schemas"]["VmSpec"];
        };
        /** @description Creates a volume. */
        CreateVolume: {
            /** @description Its labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description Its name, unique among volumes. */
            name: string;
            /** @description What is wanted. */
            spec: components["schemas"]["VolumeSpec"];
        };
        /** @description A new join token with its text, shown once. */
        CreatedJoinToken: components["schemas"]["JoinToken"] & {
            /** @description Its text: given to `POST /cluster/join` on the host that joins, or as `[cluster] join` in its answer file. */
            text: string;
        };
        /** @description A new token with its secret, shown once. */
        CreatedToken: components["schemas"]["Token"] & {
            /** @description Its secret, sent as `Authorization: Bearer …`. */
            secret: string;
        };
        /** @description Deletes a foreign file. */
        DeleteForeign: {
            /** @description The file, as `foreign` names it. */
            file: string;
        };
        /**
         * @description What disks and interfaces look like to the guest.
         * @enum {string}
         */
        DeviceModel: "virtio" | "legacy";
        /** @description DHCP for guests. It answers only machines of this cluster. */
        Dhcp: {
            /** @description Name servers told to guests. */
            dns?: string[];
            /** @description First address given to guests. */
            first: string;
            /** @description Default gateway told to guests. */
            gateway?: string | null;
            /** @description Last address given to guests. */
            last: string;
            /**
             * Format: int32
             * @description Seconds a lease lasts, 120 to 604800.
             */
            lease_seconds?: number;
            /** @description The subnet, e.g. `192.168.1.0/24`; prefix 8 to 30. */
            subnet: string;
        };
        /** @description A disk of a VM. */
        Disk: {
            /** @description How much it may do. */
            limits?: components["schemas"]["IoLimits"];
            /** @description The guest may not write. */
            read_only?: boolean;
            /** @description The volume; attached to at most one VM. */
            volume: components["schemas"]["VolumeId"];
        };
        /** @description What a disk says of its own health (SMART). */
        DiskHealth: {
            /** @enum {string} */
            state: "healthy";
        } | {
            /** @description What it says. */
            reason: string;
            /** @enum {string} */
            state: "worn";
        } | {
            /** @description What it says. */
            reason: string;
            /** @enum {string} */
            state: "failing";
        } | {
            /** @description Why it is not known. */
            reason: string;
            /** @enum {string} */
            state: "unknown";
        };
        /** @description `POST /session/totp`. */
        EnrolTotp: {
            /** @description The present password. */
            password: string;
        };
        /** @description One thing that happened. */
        Event: {
            /** @description Who caused it, where someone did. */
            actor?: string | null;
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description Identity; ordered by time. */
            id: components["schemas"]["EventId"];
            /** @description What kind, e.g. `vm.started`. */
            kind: string;
            /** @description How grave. */
            level: components["schemas"]["EventLevel"];
            /** @description In words. */
            message: string;
            /** @description To which object: `kind/id`. */
            target: string;
        };
        /**
         * Format: uuid
         * @description An entry of the event log.
         */
        EventId: string;
        /**
         * @description How grave an event is.
         * @enum {string}
         */
        EventLevel: "info" | "warning" | "error";
        /** @description `POST /hosts/{id}/factory-reset`: the host forgets what it has kept and starts as if it were installed anew. */
        FactoryReset: {
            /** @description The name of the host, as a word that this is meant. */
            confirm: string;
            /** @description The images and volumes on its data partition go too. What stays there is not known to the host any more. */
            data: boolean;
        };
        /** @description One field of the request that was refused. */
        FieldError: {
            /** @description Path of the field, e.g. `spec.disks[1].volume`. */
            field: string;
            /** @description Why it was refused and what is allowed. */
            reason: string;
        };
        /**
         * @description The firmware of a machine.
         * @enum {string}
         */
        FirmwareKind: "uefi" | "bios";
        /** @description A file in a pool that belongs to no object of the cluster, of a host that was installed anew over its data for example. */
        ForeignFile: {
            clone_of?: components["schemas"]["ImageId"] | null;
            /** @description Where it is in the pool, e.g. `volumes/0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a.qcow2`. */
            file: string;
            /** @description What it was. */
            kind: components["schemas"]["ForeignKind"];
            /**
             * Format: date-time
             * @description When its content last changed.
             */
            modified_at: string;
            /** @description Its length. */
            size_bytes: components["schemas"]["Bytes"];
            /** @description What it takes of the pool. */
            used_bytes: components["schemas"]["Bytes"];
        };
        /**
         * @description What a foreign file was.
         * @enum {string}
         */
        ForeignKind: "image" | "volume" | "firmware" | "tpm";
        /** @description How the present epoch of a cluster began. */
        Formed: {
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description Name of the host it was formed from. */
            by: string;
            /** @description From a backup. */
            restored: boolean;
        };
        /** @description A role on a scope. */
        Grant: {
            /** @description The role. */
            role: components["schemas"]["RoleId"];
            /** @description Where it holds. */
            scope: components["schemas"]["Scope"];
        };
        /** @description Users with common grants. */
        Group: {
            /** @description Identity. */
            meta: components["schemas"]["Metadata_GroupId"];
            /** @description What is wanted. */
            spec: components["schemas"]["GroupSpec"];
        };
        /**
         * Format: uuid
         * @description A group of users.
         */
        GroupId: string;
        /** @description A group of the directory that stands for one of the cluster. */
        GroupMapping: {
            /** @description Its name or distinguished name there, letter case aside; `*` for everyone the provider knows. */
            external: string;
            /** @description The group of the cluster. */
            group: components["schemas"]["GroupId"];
        };
        /** @description Who is in a group and what that grants. */
        GroupSpec: {
            /** @description What it is for. */
            description?: string;
            /** @description What members may do. */
            grants?: components["schemas"]["Grant"][];
            /** @description Users in it. */
            members?: components["schemas"]["UserId"][];
        };
        /** @description `POST /volumes/{id}/grow`. Only while no running machine uses the volume. */
        GrowVolume: {
            /** @description New size; at least the present one. */
            size_bytes: components["schemas"]["Bytes"];
        };
        /** @description A host, as the one that watches sees it. */
        HaHost: {
            /** @description Why it is protected less well than it could be. */
            degraded?: string | null;
            /** @description What its BMC is asked, or said, while it is silent. */
            fence?: string | null;
            /**
             * Format: int64
             * @description Milliseconds since its last beat; absent where none was heard.
             */
            heard_ms_ago?: number | null;
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /** @description Its name. */
            name: string;
            /**
             * Format: int64
             * @description Milliseconds until nothing it runs under a lease can write any more, all margins included.
             */
            over_in_ms?: number | null;
            /** @description What happens, or why nothing does. */
            reason?: string | null;
            /** @description Where it is. */
            state: components["schemas"]["HaHostState"];
            watchdog?: components["schemas"]["HostWatchdog"] | null;
        };
        /**
         * @description Where a host is.
         * @enum {string}
         */
        HaHostState: "unknown" | "present" | "silent" | "lost";
        /** @description A protected machine. */
        HaMachine: {
            host?: components["schemas"]["HostId"] | null;
            /** @description Its name. */
            name: string;
            /** @description Which come first. */
            priority: components["schemas"]["HaPriority"];
            /** @description Why, where that needs words. */
            reason?: string | null;
            /** @description Where it is. */
            state: components["schemas"]["HaMachineState"];
            /** @description The machine. */
            vm: components["schemas"]["VmId"];
        };
        /**
         * @description Where a protected machine is.
         * @enum {string}
         */
        HaMachineState: "protected" | "stopped" | "not-protectable" | "restarting" | "waiting";
        /**
         * @description Order in which the machines of a lost host are started again.
         * @enum {string}
         */
        HaPriority: "high" | "medium" | "low" | "disabled";
        /** @description High availability of the whole cluster, as it is wanted: `PUT /cluster/ha`. */
        HaSpec: {
            /** @description Machines of lost hosts are started again. Where not, they wait until this is armed again, or their host is back. */
            armed: boolean;
        };
        /** @description `GET /cluster/ha`. */
        HaStatus: {
            /** @description Every host. */
            hosts: components["schemas"]["HaHost"][];
            /** @description Every protected machine. */
            machines: components["schemas"]["HaMachine"][];
            /** @description What is wanted. */
            spec: components["schemas"]["HaSpec"];
            /** @description What is wrong or weaker than it could be, in words an administrator can act on. */
            warnings?: string[];
            watched_by?: components["schemas"]["HostId"] | null;
        };
        /** @description A host. */
        Host: {
            /** @description No machine is placed on it, and those that ran there were moved away, as far as they could be. */
            maintenance?: boolean;
            /** @description Identity. */
            meta: components["schemas"]["Metadata_HostId"];
            status?: components["schemas"]["HostStatus"] | null;
            /** @description It only votes: no machine, pool or network is ever on it. */
            witness?: boolean;
        };
        /**
         * Format: uuid
         * @description A host (one machine running LimiQuantix).
         */
        HostId: string;
        /** @description `POST /hosts/{id}/maintenance`. */
        HostMaintenance: {
            /** @description Whether it is to be in maintenance. */
            on: boolean;
            /** @description Shut down the machines that cannot be moved. */
            shut_down?: boolean;
        };
        /** @description Management network of a host. */
        HostNetwork: {
            /** @description Address with prefix; DHCP where absent. */
            address?: string | null;
            /** @description Name servers, at most three. */
            dns?: string[];
            /** @description Default gateway. */
            gateway?: string | null;
            interface?: components["schemas"]["Mac"] | null;
        };
        /** @description `POST /hosts/{id}/power`. */
        HostPower: {
            /** @description What to do; guests are stopped first. */
            action: components["schemas"]["HostPowerAction"];
        };
        /**
         * @description Power action of a host.
         * @enum {string}
         */
        HostPowerAction: "reboot" | "power-off";
        /** @description What a host says of itself. */
        HostStatus: {
            /** @description Live, or from which slot. */
            boot: string;
            /**
             * Format: date-time
             * @description When it booted.
             */
            booted_at: string;
            certificate?: components["schemas"]["Certificate"] | null;
            /** @description Its processors. */
            cpu: components["schemas"]["Cpu"];
            /** @description Its disks. */
            disks: components["schemas"]["BlockDevice"][];
            /** @description Its physical network interfaces. */
            interfaces: components["schemas"]["Interface"][];
            /** @description Kernel it runs. */
            kernel: string;
            /** @description Its memory. */
            memory: components["schemas"]["Memory"];
            /** @description Functions on its PCI bus, but for bridges: what can be given to a machine (`spec.passthrough`), and why the others cannot. */
            pci?: components["schemas"]["PciFunction"][];
            /** @description Whether the simulated host stands in for a real one. */
            simulated: boolean;
            /** @description LimiQuantix version it runs. */
            version: string;
            /** @description Whether it can run guests, and if not, why. */
            virtualization: components["schemas"]["Virtualization"];
            /** @description What keeps it from full health or safety, in words an administrator can act on. */
            warnings?: string[];
        };
        /** @description A host's clock. */
        HostTime: {
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /** @description Its name. */
            name: string;
            status?: components["schemas"]["TimeStatus"] | null;
        };
        /** @description A host over a span. */
        HostUsage: {
            /** @description Which. */
            host: components["schemas"]["HostId"];
            /** @description What it did. */
            load: components["schemas"]["Load"];
            /** @description Memory it has. */
            memory_bytes: components["schemas"]["Bytes"];
            /**
             * Format: int32
             * @description Logical processors it has.
             */
            processors: number;
        };
        /** @description A host's watchdog. */
        HostWatchdog: {
            /** @description It is a device of its own, which restarts the host even where the whole kernel hangs. */
            hardware: boolean;
            /** @description As its driver calls it. */
            name: string;
            /**
             * Format: int32
             * @description After so many seconds. A device is quick (5 s) only while the host runs a protected machine.
             */
            seconds: number;
        };
        /**
         * @description The program that runs a machine.
         * @enum {string}
         */
        Hypervisor: "lq-vmm" | "qemu";
        /** @description `GET /session`: who am I, and what may I do. */
        Identity: {
            /** @description `session`, `token` or `local`. */
            by: string;
            /**
             * Format: date-time
             * @description When the credential ends.
             */
            expires_at?: string | null;
            /** @description The password is kept here and can be changed here. */
            has_password?: boolean;
            /** @description Where one logs out at the identity provider too. */
            logout_url?: string | null;
            /** @description Nothing is allowed before `POST /session/password`. */
            must_change_password?: boolean;
            /** @description The realm they are of, where it is not the cluster's own. */
            realm?: string | null;
            /** @description What the caller may do, and where: own grants, those of groups, and the limits of a token taken together. */
            rights?: components["schemas"]["Right"][];
            session?: components["schemas"]["SessionId"] | null;
            /** @description The user logs in with a one-time code too. */
            totp?: boolean;
            user?: components["schemas"]["UserId"] | null;
            /** @description Who. */
            username: string;
        };
        /** @description An image. */
        Image: {
            /** @description Identity. */
            meta: components["schemas"]["Metadata_ImageId"];
            /** @description What it was declared to be. */
            spec: components["schemas"]["ImageSpec"];
            /** @description What it is. */
            status: components["schemas"]["ImageStatus"];
        };
        /**
         * @description Format of an image's bytes.
         * @enum {string}
         */
        ImageFormat: "raw" | "qcow2";
        /**
         * Format: uuid
         * @description A disk, kernel or initrd image from which volumes and boots are made.
         */
        ImageId: string;
        /**
         * @description What an image is for.
         * @enum {string}
         */
        ImageKind: "disk" | "kernel" | "initrd" | "iso";
        /** @description The declared image. */
        ImageSpec: {
            boot?: components["schemas"]["Boot"] | null;
            /** @description Format of the bytes. Never guessed. */
            format: components["schemas"]["ImageFormat"];
            /** @description What the bytes are for. */
            kind: components["schemas"]["ImageKind"];
            pool?: components["schemas"]["PoolId"] | null;
            /** @description SHA-256 the upload must have, 64 hexadecimal digits. */
            sha256?: string | null;
        };
        /**
         * @description Where an image is in its life: `Pending` → `Uploading` → `Ready`; a failed upload returns to `Pending` with a reason.
         * @enum {string}
         */
        ImageState: "pending" | "uploading" | "ready";
        /** @description The observed image. */
        ImageStatus: {
            /** @description Why it failed. */
            reason?: string | null;
            /** @description SHA-256 of the stored bytes. */
            sha256?: string | null;
            /** @description Bytes stored. */
            size_bytes?: components["schemas"]["Bytes"];
            /** @description Where it is in its life. */
            state: components["schemas"]["ImageState"];
            /** @description Size a disk cloned from it has at least. */
            virtual_size_bytes?: components["schemas"]["Bytes"];
        };
        /** @description A network interface. */
        Interface: {
            /** @description Addresses with prefix. */
            addresses: string[];
            /** @description Hardware address. */
            mac: string;
            /** @description Kernel name. */
            name: string;
            /** @description Link is up. */
            up: boolean;
        };
        /** @description Limits of a disk, or of one direction of an interface. Absent: none. */
        IoLimits: {
            bandwidth?: components["schemas"]["Rate"] | null;
            operations?: components["schemas"]["Rate"] | null;
        };
        /** @description Counters of one device, from the guest's view (read = received for interfaces). */
        IoStats: {
            /**
             * Format: int64
             * @description Failed requests or dropped packets.
             */
            errors: number;
            /**
             * Format: int64
             * @description Bytes read or received.
             */
            read_bytes: number;
            /**
             * Format: int64
             * @description Requests or packets read or received.
             */
            reads: number;
            /**
             * Format: int64
             * @description Requests or packets written or sent.
             */
            writes: number;
            /**
             * Format: int64
             * @description Bytes written or sent.
             */
            written_bytes: number;
        };
        /** @description `POST /cluster/join` and `POST /cluster/join/preview`, asked of the host that joins. */
        JoinCluster: {
            /** @description Objects of this host whose names are taken there may be given others, as the preview tells. */
            rename?: boolean;
            /** @description Text of a join token of the cluster. */
            token: string;
        };
        /** @description What joining will do. */
        JoinPreview: {
            /**
             * Format: uuid
             * @description The cluster.
             */
            cluster: string;
            /** @description Names of its hosts. */
            hosts: string[];
            /** @description Networks of the joining host that nothing uses; the cluster's own of the same name take their place. */
            left_out: string[];
            /** @description Machines that come along; those that run go on running. */
            machines: string[];
            /** @description Objects of the joining host that get another name because theirs is taken. */
            renamings: components["schemas"]["Renaming"][];
        };
        /** @description A join token, without its secret. */
        JoinToken: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            created_at: string;
            /**
             * Format: date-time
             * @description When it ends.
             */
            expires_at: string;
            /** @description Identity. */
            id: components["schemas"]["TokenId"];
            /**
             * Format: int32
             * @description How many hosts may still join with it.
             */
            uses_left: number;
        };
        /** @description A directory. */
        LdapSource: {
            /** @description Below this users are searched for. */
            base_dn?: string;
            /**
             * @description Distinguished name of the service account that searches, whose password is the provider's secret; nobody in particular
             *     where absent.
             */
            bind_dn?: string | null;
            /** @description Certificates that are trusted. */
            ca?: string | null;
            /** @description SHA-256 of the one certificate that is trusted, hexadecimal, in place of authorities. */
            certificate_sha256?: string | null;
            /** @description Below this groups are searched for; `base_dn` where absent. */
            group_base_dn?: string | null;
            /**
             * @description Finds the groups of a user, `{dn}` standing for their distinguished name and `{user}` for their name; where absent the
             *     attribute `memberOf` of the user tells them.
             */
            group_filter?: string | null;
            /** @description Attribute with their name for people. */
            name_attribute?: string;
            /** @description `ldaps://host[:port]` (TLS from the first byte) or `ldap://host[:port]` (StartTLS), 1 to 8, tried in this order. */
            servers: string[];
            /** @description Attribute with the user's name. */
            user_attribute?: string;
            /**
             * @description Distinguished name of a user, `{user}` standing for their name: where it is given users are not searched for. Without a
             *     service account it cannot be seen then that someone was removed, before their session ends.
             */
            user_dn?: string | null;
            /** @description Finds one user, `{user}` standing for their name (RFC 4515). */
            user_filter?: string;
        };
        /** @description Means over a span, of the time in which something was measured; absent where nothing was. */
        Load: {
            /**
             * Format: float
             * @description Processors in use, so 1.5 is one and a half.
             */
            cpu?: number | null;
            /**
             * Format: float
             * @description Read from and written to disks, in bytes per second.
             */
            disk?: number | null;
            /**
             * Format: float
             * @description Memory in use on the host, in bytes.
             */
            memory?: number | null;
            /**
             * Format: float
             * @description Received and sent, in bytes per second.
             */
            network?: number | null;
        };
        /** @description `POST /session`. */
        Login: {
            /**
             * @description The one-time code, or a recovery code, where the user has them. Without it the answer is a problem of the type
             *     `/problems/second-factor`.
             */
            code?: string | null;
            /** @description Their password. */
            password: string;
            /**
             * @description The realm the user is of: `local` or the name of a directory. Where absent it is what follows the last `@` of the name, if
             *     there is such a directory, else `local`.
             */
            realm?: string | null;
            /** @description Name of the user, e.g. `admin`. */
            username: string;
        };
        /** @description An Ethernet address, written `52:54:00:12:34:56`. */
        Mac: string;
        /**
         * @description The board of a machine on QEMU, with the version whose behaviour it keeps whatever QEMU it runs on.
         * @enum {string}
         */
        MachineType: "pc-q35-7.2" | "pc-i440fx-7.2";
        /** @description A machine over a span. */
        MachineUsage: {
            /** @description Where it was measured. */
            host: components["schemas"]["HostId"];
            /** @description What it did. */
            load: components["schemas"]["Load"];
            /** @description Which. */
            vm: components["schemas"]["VmId"];
        };
        /**
         * @description How the connection to a mail server is protected.
         * @enum {string}
         */
        MailSecurity: "start-tls" | "tls" | "none";
        /** @description `GET /hosts/{id}/network`: the management network of a host. */
        ManagementNetwork: {
            /** @description The settings that hold at the next start. */
            kept: components["schemas"]["HostNetwork"];
            /** @description The interfaces there are to choose from. */
            nics?: components["schemas"]["ManagementNic"][];
            /** @description What became of the last change, where it was taken back. */
            note?: string | null;
            trial?: components["schemas"]["NetworkTrial"] | null;
            /** @description Kernel name of the interface in use. */
            uplink?: string | null;
        };
        /** @description An interface the management network could use. */
        ManagementNic: {
            /** @description A cable is in and the other side answers. */
            link: boolean;
            /** @description Hardware address, by which it is chosen. */
            mac: components["schemas"]["Mac"];
            /** @description Kernel name. */
            name: string;
        };
        /** @description A host's part in the cluster. */
        Member: {
            /** @description Where its peers reach it. */
            address?: string | null;
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /**
             * Format: int64
             * @description How many changes it lacks of those the leader knows; absent where nobody could be asked.
             */
            lag?: number | null;
            /**
             * Format: date-time
             * @description Since when the cluster goes on without it; it comes back by joining anew.
             */
            lost_at?: string | null;
            /** @description Its name. */
            name: string;
            /** @description Whether the leader hears it; absent where nobody could be asked. */
            reachable?: boolean | null;
            refused?: components["schemas"]["RefusedMember"] | null;
            /** @description What it does for the cluster. */
            role: components["schemas"]["MemberRole"];
        };
        /**
         * @description What a host does for the cluster's agreement.
         * @enum {string}
         */
        MemberRole: "leader" | "voter" | "follower" | "joining" | "lost";
        /** @description Memory. */
        Memory: {
            /** @description Available for new guests. */
            available_bytes: components["schemas"]["Bytes"];
            /** @description In all. */
            total_bytes: components["schemas"]["Bytes"];
        };
        /** @description A change of name and labels; what is absent stays. */
        MetadataPatch: {
            /** @description New set of labels, replacing the old one. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description New name. */
            name?: string | null;
        };
        /** @description Identity and version of a stored object. */
        Metadata_ChannelId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A notification channel.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_GroupId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A group of users.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_HostId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A host (one machine running LimiQuantix).
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_ImageId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A disk, kernel or initrd image from which volumes and boots are made.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_NetworkId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A network guests connect to.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_PoolId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A storage pool.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_ProviderId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description An identity provider.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_RoleId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A role.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_UserId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A user account.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_VmId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A virtual machine.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Identity and version of a stored object. */
        Metadata_VolumeId: {
            /**
             * Format: date-time
             * @description When the object was made.
             */
            created_at: string;
            /**
             * Format: int64
             * @description Grows by one at each change of the desired state (`spec`).
             */
            generation: number;
            /**
             * Format: uuid
             * @description A disk of a virtual machine.
             */
            id: string;
            /** @description Free key-value pairs for filters. */
            labels?: {
                [key: string]: string;
            };
            /** @description Unique per kind; may be changed at any time. See [`check_name`]. */
            name: string;
            /**
             * Format: int64
             * @description Position in the cluster's log of the last change to this object, observed state included. The ETag.
             */
            revision: number;
        };
        /** @description Values over time, at even distances. */
        MetricHistory: {
            /**
             * Format: date-time
             * @description Beginning of the first interval.
             */
            from: string;
            /** @description The metrics. */
            metrics: components["schemas"]["MetricValues"][];
            /**
             * Format: int32
             * @description Length of an interval in seconds.
             */
            step_seconds: number;
        };
        /** @description One metric over time. */
        MetricValues: {
            /** @description Its name, e.g. `disk.read`. */
            name: string;
            /** @description In what it is measured. */
            unit: components["schemas"]["Unit"];
            /** @description Mean of each interval; `null` where nothing was measured. All metrics have equally many. */
            values: (number | null)[];
        };
        /** @description `POST /vms/{id}/migrate`. */
        MigrateVm: {
            bandwidth_bytes?: components["schemas"]["Bytes"] | null;
            host?: components["schemas"]["HostId"] | null;
        };
        /** @description How a machine's move to another host goes. */
        MigrationProgress: {
            dirty_bytes_per_second?: components["schemas"]["Bytes"] | null;
            /**
             * Format: int64
             * @description How long the guest stood still, in microseconds, once it is known.
             */
            pause_micros?: number | null;
            /** @description What is being done. */
            phase: components["schemas"]["MovePhase"];
            /**
             * Format: int32
             * @description Passes over the memory so far.
             */
            rounds: number;
            /** @description Bytes of memory sent, as they went (compressed). */
            sent_bytes: components["schemas"]["Bytes"];
            /**
             * Format: int32
             * @description Per cent of its time that is taken from the guest so that it can be moved.
             */
            throttle_percent: number;
        };
        /** @description A host that does not answer. */
        MissingHost: {
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /**
             * Format: date-time
             * @description When it was last heard; absent where it never was since the daemon of the answering host began.
             */
            last_heard?: string | null;
            /** @description Its name. */
            name: string;
            /** @description Its vote counts. */
            voter: boolean;
        };
        /**
         * @description What is being done to move a machine.
         * @enum {string}
         */
        MovePhase: "preparing" | "copying" | "switching" | "moved";
        /** @description A network. */
        Network: {
            /** @description Identity. */
            meta: components["schemas"]["Metadata_NetworkId"];
            /** @description What is wanted. */
            spec: components["schemas"]["NetworkSpec"];
        };
        /**
         * Format: uuid
         * @description A network guests connect to.
         */
        NetworkId: string;
        /**
         * @description How a network reaches the outside.
         * @enum {string}
         */
        NetworkKind: "bridged";
        /** @description The wanted network. */
        NetworkSpec: {
            dhcp?: components["schemas"]["Dhcp"] | null;
            /** @description How it reaches the outside. */
            kind: components["schemas"]["NetworkKind"];
        };
        /** @description `POST /hosts/{id}/network/test`: whether the network in use works, seen from the host. */
        NetworkTest: {
            /** @description The host's address with its prefix; absent where it has none. */
            address?: string | null;
            /** @description Whether the API answers at the host's address. */
            api_answers: boolean;
            /** @description The gateway of the default route; absent where there is none. */
            gateway?: string | null;
            /** @description Whether the gateway answers on the link (ARP); absent where there is none. */
            gateway_answers?: boolean | null;
        };
        /** @description A change on trial. */
        NetworkTrial: {
            /** @description The settings that are tried. */
            network: components["schemas"]["HostNetwork"];
            /**
             * Format: int32
             * @description Seconds until they are taken back.
             */
            seconds_left: number;
        };
        /** @description `POST /hosts/{id}/certificate`: a new certificate for the API and the page. */
        NewCertificate: {
            /** @description The name of the host, as a word that this is meant: whoever trusts the old certificate has to look at the new one. */
            confirm: string;
        };
        /** @description What began. */
        NewEpoch: {
            /** @description The backup of the state before it. */
            backup: string;
            /**
             * Format: int64
             * @description The epoch.
             */
            epoch: number;
        };
        /**
         * @description Mount options that may be chosen, named as in nfs(5). All others are set so that data is safe: `hard`, `nosuid`, `nodev`,
         *     `noexec`, locks at the server.
         */
        NfsOptions: {
            /**
             * Format: int32
             * @description Connections to the server, 1 to 16.
             */
            nconnect?: number | null;
            /**
             * Format: int32
             * @description Repetitions until the server counts as silent (it is asked on without end), 1 to 10; 3 where absent.
             */
            retrans?: number | null;
            /**
             * Format: int32
             * @description Most bytes of one read: a power of two from 4096 to 1048576.
             */
            rsize?: number | null;
            /**
             * Format: int32
             * @description Tenths of a second until a request is repeated, 10 to 6000; 150 where absent.
             */
            timeo?: number | null;
            /**
             * Format: int32
             * @description Most bytes of one write: a power of two from 4096 to 1048576.
             */
            wsize?: number | null;
        };
        /** @description An export of an NFS server. Never changes: another export is another pool. */
        NfsSpec: {
            /** @description Path of the export (or of a directory in it) as NFS version 4 shows it, e.g. `/srv/limiquantix`. */
            export: string;
            /** @description How it is mounted beyond that. */
            options?: components["schemas"]["NfsOptions"];
            /**
             * Format: int32
             * @description TCP port of the server.
             */
            port?: number;
            /** @description Name or address of the server. A name is resolved by each host whenever it mounts. */
            server: string;
            /** @description Version of the protocol. */
            version?: components["schemas"]["NfsVersion"];
        };
        /**
         * @description Version of the NFS protocol. Older ones have no locks that outlive a restart of the server in order.
         * @enum {string}
         */
        NfsVersion: "4.1" | "4.2";
        /** @description A network interface of a VM. */
        Nic: {
            /** @description Its cable is in. */
            connected?: boolean;
            /** @description How much it may do. */
            limits?: components["schemas"]["NicLimits"];
            mac?: components["schemas"]["Mac"] | null;
            /** @description The network it is connected to. */
            network: components["schemas"]["NetworkId"];
        };
        /** @description Limits of an interface. */
        NicLimits: {
            /** @description Of what the guest receives. */
            receive?: components["schemas"]["IoLimits"];
            /** @description Of what the guest sends. */
            transmit?: components["schemas"]["IoLimits"];
        };
        /** @description An object as it is now, or the news that it is gone. */
        Notice: {
            /**
             * Format: uuid
             * @description Identity of the object.
             */
            id: string;
            object?: components["schemas"]["Told"] | null;
            /**
             * Format: int64
             * @description Revision of the change; of a task, which has none, the revision to go on from.
             */
            revision: number;
        };
        /**
         * @description Kinds of object a grant can be limited to.
         * @enum {string}
         */
        ObjectKind: "vm" | "image" | "volume" | "network" | "pool" | "host";
        /** @description `POST /session/oidc`: what the browser came back with. */
        OidcFinish: {
            /** @description The code. */
            code: string;
            /** @description Who it is of, where the provider says so. */
            iss?: string | null;
            /** @description What the login was begun with. */
            state: string;
        };
        /** @description Where the browser is to go. It comes back to `/oidc` with a code. */
        OidcRedirect: {
            /** @description The provider's page. */
            url: string;
        };
        /**
         * @description An OpenID Connect provider. Where it is asked for a redirection address, register `https://HOST/oidc` for every name and
         *     address by which the page is opened.
         */
        OidcSource: {
            /** @description Certificates that are trusted. */
            ca?: string | null;
            /** @description How it knows us. The client secret, where there is one, is the provider's secret. */
            client_id: string;
            /** @description Claim with their groups. */
            groups_claim?: string;
            /** @description Its issuer, `https://…` (`http://…` only on this very machine); what it is and can is found below it by discovery. */
            issuer: string;
            /** @description Claim with their name for people. */
            name_claim?: string;
            /** @description What is asked for beside `openid`. */
            scopes?: string[];
            /** @description Claim with the user's name. */
            username_claim?: string;
        };
        /** @description `POST /session/oidc/start`: to log in at the page of an identity provider. */
        OidcStart: {
            /** @description The provider. */
            realm: string;
        };
        /** @description `PUT /cluster/pairing`. */
        OpenPairing: {
            /** @description Wait for an hour although this host has machines, volumes or images of its own: they come along. */
            open: boolean;
        };
        /** @description The cluster goes on in an epoch that this host is not of. */
        Outdated: {
            /**
             * Format: date-time
             * @description When it began.
             */
            at: string;
            /** @description Name of the host it was formed from. */
            by: string;
            /**
             * Format: int64
             * @description The epoch of the cluster.
             */
            epoch: number;
            /** @description All of it in words, with what to do. */
            reason: string;
        };
        /** @description One page of a list. */
        Page_Alert: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                acknowledged?: components["schemas"]["Acknowledgement"] | null;
                /**
                 * Format: date-time
                 * @description When severity or message last changed.
                 */
                changed_at: string;
                /** @description Identity; ordered by time. */
                id: components["schemas"]["AlertId"];
                /** @description Known only to the host that answered: the cluster takes no changes. */
                local?: boolean;
                /** @description What is wrong and what to do. */
                message: string;
                /** @description Which part of the object, e.g. a disk. */
                part?: string | null;
                /**
                 * Format: date-time
                 * @description When it was raised.
                 */
                raised_at: string;
                /**
                 * Format: date-time
                 * @description When it was over; absent while it is not.
                 */
                resolved_at?: string | null;
                /** @description The rule that raised it. */
                rule: components["schemas"]["AlertRule"];
                /** @description How grave it is. */
                severity: components["schemas"]["Severity"];
                silenced?: components["schemas"]["Silence"] | null;
                source?: components["schemas"]["HostId"] | null;
                /** @description About which object: `kind/id`, or `cluster`. */
                target: string;
                /** @description The name that object had when the alert was raised. */
                target_name: string;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_AuditRecord: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description What, e.g. `vm.start`, `user.create`, `session.create`. */
                action: string;
                /** @description Who, in words: `admin`, `admin (token backup)`, `root (local)`; the name that was claimed, where nobody logged in. */
                actor: string;
                /**
                 * Format: date-time
                 * @description When it was answered.
                 */
                at: string;
                /** @description Why it was not done. */
                detail?: string | null;
                /** @description From where: an address, or `this host (uid 0)`. */
                from: string;
                /** @description Host that answered it. Each host keeps the records of what it answered. */
                host: components["schemas"]["HostId"];
                /** @description Identity; ordered by time. */
                id: components["schemas"]["AuditId"];
                /** @description Whether it was done. */
                outcome: components["schemas"]["AuditOutcome"];
                /** @description Id of the request, to be found in the daemon's log. */
                request_id: string;
                /**
                 * Format: int32
                 * @description The HTTP status of the answer.
                 */
                status: number;
                /** @description To which object: `kind/id`, or the kind alone. */
                target: string;
                /** @description Name of the object at that time, where it has one. */
                target_name?: string | null;
                user?: components["schemas"]["UserId"] | null;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Channel: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description It has a secret, which is never told. */
                has_secret: boolean;
                /** @description Identity. */
                meta: components["schemas"]["Metadata_ChannelId"];
                /** @description What is wanted. */
                spec: components["schemas"]["ChannelSpec"];
                /** @description How it does. */
                status: components["schemas"]["ChannelStatus"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Event: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Who caused it, where someone did. */
                actor?: string | null;
                /**
                 * Format: date-time
                 * @description When.
                 */
                at: string;
                /** @description Identity; ordered by time. */
                id: components["schemas"]["EventId"];
                /** @description What kind, e.g. `vm.started`. */
                kind: string;
                /** @description How grave. */
                level: components["schemas"]["EventLevel"];
                /** @description In words. */
                message: string;
                /** @description To which object: `kind/id`. */
                target: string;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Group: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Identity. */
                meta: components["schemas"]["Metadata_GroupId"];
                /** @description What is wanted. */
                spec: components["schemas"]["GroupSpec"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Host: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description No machine is placed on it, and those that ran there were moved away, as far as they could be. */
                maintenance?: boolean;
                /** @description Identity. */
                meta: components["schemas"]["Metadata_HostId"];
                status?: components["schemas"]["HostStatus"] | null;
                /** @description It only votes: no machine, pool or network is ever on it. */
                witness?: boolean;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Image: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Identity. */
                meta: components["schemas"]["Metadata_ImageId"];
                /** @description What it was declared to be. */
                spec: components["schemas"]["ImageSpec"];
                /** @description What it is. */
                status: components["schemas"]["ImageStatus"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Network: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Identity. */
                meta: components["schemas"]["Metadata_NetworkId"];
                /** @description What is wanted. */
                spec: components["schemas"]["NetworkSpec"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Pool: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description It is being deleted: nothing new goes into it. */
                deleting?: boolean;
                /**
                 * @description Files in it that belong to no object of the cluster: kept until they are adopted or deleted. Told of one pool at a time, by
                 *     a host that reaches it.
                 */
                foreign?: components["schemas"]["ForeignFile"][];
                /** @description Of a shared pool: how each host stands to it. A host that has not said anything yet is not here. */
                hosts?: components["schemas"]["PoolHost"][];
                /** @description Identity. */
                meta: components["schemas"]["Metadata_PoolId"];
                /** @description What it is. */
                spec: components["schemas"]["PoolSpec"];
                status?: components["schemas"]["PoolStatus"] | null;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Provider: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description It has a secret, which is never told. */
                has_secret: boolean;
                /** @description Identity; the name is the realm. */
                meta: components["schemas"]["Metadata_ProviderId"];
                /** @description What is wanted. */
                spec: components["schemas"]["ProviderSpec"];
                /** @description How it does. */
                status: components["schemas"]["ProviderStatus"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Role: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description It comes with the product and cannot be changed. */
                builtin?: boolean;
                /** @description Identity. */
                meta: components["schemas"]["Metadata_RoleId"];
                /** @description What it allows. */
                spec: components["schemas"]["RoleSpec"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_SessionInfo: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /**
                 * Format: date-time
                 * @description When they logged in.
                 */
                created_at: string;
                /** @description It is the caller's own present one. */
                current: boolean;
                /**
                 * Format: date-time
                 * @description When it ends if it is not refreshed.
                 */
                expires_at: string;
                /** @description Address they logged in from. */
                from: string;
                /** @description Identity. */
                id: components["schemas"]["SessionId"];
                /**
                 * Format: date-time
                 * @description When it was last refreshed.
                 */
                refreshed_at: string;
                /** @description Whose. */
                user: components["schemas"]["UserId"];
                /** @description Their name. */
                username: string;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Task: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Who asked. */
                actor: string;
                /**
                 * Format: date-time
                 * @description When it was asked for.
                 */
                created_at: string;
                /**
                 * Format: date-time
                 * @description When it ended.
                 */
                ended_at?: string | null;
                /** @description Identity. */
                id: components["schemas"]["TaskId"];
                /** @description What is done, e.g. `vm.stop`. */
                kind: string;
                /** @description What it is doing, or why it failed. */
                message?: string | null;
                migration?: components["schemas"]["MigrationProgress"] | null;
                /**
                 * Format: double
                 * @description Share done, 0 to 1, where it can be told.
                 */
                progress?: number | null;
                /** @description What became of each object, where the task is about several. */
                results?: components["schemas"]["TaskResult"][];
                /** @description Where it is. */
                state: components["schemas"]["TaskState"];
                /** @description The object it is done to: `kind/id`. */
                target: string;
                user?: components["schemas"]["UserId"] | null;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Token: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /**
                 * Format: date-time
                 * @description When it was made.
                 */
                created_at: string;
                /**
                 * Format: date-time
                 * @description When it ends; never where absent.
                 */
                expires_at?: string | null;
                /** @description Identity. */
                id: components["schemas"]["TokenId"];
                limit?: components["schemas"]["Grant"] | null;
                /** @description What it is for. */
                name: string;
                /** @description User it acts for: it may never do more than they may. */
                owner?: components["schemas"]["UserId"];
                /**
                 * @description What its owner might do when someone else made it for them: it may do no more than this either, whatever its owner is
                 *     granted later. Absent where its owner made it.
                 */
                pinned?: components["schemas"]["Right"][] | null;
                /** @description It may only read. */
                read_only: boolean;
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_User: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Identity; the name is what they log in with. */
                meta: components["schemas"]["Metadata_UserId"];
                /** @description What is wanted. */
                spec: components["schemas"]["UserSpec"];
                /** @description What is so. */
                status: components["schemas"]["UserStatus"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Vm: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Identity. */
                meta: components["schemas"]["Metadata_VmId"];
                /** @description What is wanted. */
                spec: components["schemas"]["VmSpec"];
                /** @description What is. */
                status: components["schemas"]["VmStatus"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description One page of a list. */
        Page_Volume: {
            /** @description The objects, ordered by id (that is, by time of creation). */
            items: {
                /** @description Identity. */
                meta: components["schemas"]["Metadata_VolumeId"];
                /** @description What is wanted. */
                spec: components["schemas"]["VolumeSpec"];
                /** @description What is. */
                status: components["schemas"]["VolumeStatus"];
            }[];
            /** @description Give as `cursor` to get the next page; absent on the last. */
            next_cursor?: string | null;
            /**
             * Format: int64
             * @description Revision of the cluster state the page was read at.
             */
            revision: number;
        };
        /** @description `POST /cluster/pair`: brings a waiting host in. */
        PairHost: {
            /** @description Where it is asked: an address, with a port where it is not 7443. */
            address: string;
            /** @description The code on its console. */
            code: string;
            host?: components["schemas"]["HostId"] | null;
            /** @description Objects of that host whose names are taken here may be given others. */
            rename?: boolean;
        };
        /** @description How this host stands to being paired. */
        Pairing: {
            /** @description The code, also on its console; absent while a cluster is bringing it in. */
            code?: string | null;
            /**
             * Format: date-time
             * @description When there will be another code, unless it is guessed wrong three times before.
             */
            expires_at?: string | null;
            /** @description A cluster gave the right code and is bringing it in. */
            joining?: boolean;
            /**
             * Format: date-time
             * @description Until when it waits although it has things of its own.
             */
            opened_until?: string | null;
            /** @description Why it does not wait. */
            reason?: string | null;
            /** @description It waits: it can be found on its network and brought in by its code. */
            waiting: boolean;
            /**
             * Format: int32
             * @description How often this code was guessed wrong.
             */
            wrong_guesses?: number;
        };
        /** @description A function of the host's PCI bus that a VM has for itself. */
        Passthrough: {
            /** @description Where it is on the host, as `GET /hosts/{id}` lists it: `0000:03:00.0`. */
            address: components["schemas"]["PciAddress"];
        };
        /** @description Where a function is on a host's PCI bus: domain, bus, device, function, written `0000:03:00.0`. */
        PciAddress: string;
        /** @description A function on a host's PCI bus. */
        PciFunction: {
            /** @description Where it is. */
            address: components["schemas"]["PciAddress"];
            /** @description Class, six hexadecimal digits. */
            class: string;
            /** @description Device, four hexadecimal digits. */
            device: string;
            /** @description The driver that has it; absent: none. `vfio-pci` where it is given to a machine that runs. */
            driver?: string | null;
            /**
             * Format: int32
             * @description Its IOMMU group; absent: it is in none.
             */
            iommu_group?: number | null;
            /** @description What it is, by its class. */
            name: string;
            /** @description Why it cannot be given to a machine; absent: it can. */
            obstacle?: string | null;
            /** @description The other functions of its group: all of them are given to one machine, or none. */
            together_with?: components["schemas"]["PciAddress"][];
            /** @description Vendor, four hexadecimal digits. */
            vendor: string;
        };
        /** @description A change of a machine that runs which has not taken effect. */
        PendingChange: {
            /** @description The device of that field it is about: the volume of a disk, the hardware address of an interface. */
            device?: string | null;
            /** @description The field of the specification, e.g. `spec.memory_bytes`. */
            field: string;
            /** @description In words. */
            reason: string;
            /** @description What it waits for. */
            waits_for: components["schemas"]["WaitsFor"];
        };
        /**
         * @description Something one may do.
         * @enum {string}
         */
        Permission: "vm.read" | "vm.write" | "vm.power" | "vm.console" | "storage.read" | "storage.write" | "network.read" | "network.write" | "host.read" | "host.power" | "cluster.read" | "cluster.write" | "alert.write" | "user.read" | "user.write" | "audit.read";
        /** @description A permission, explained. */
        PermissionInfo: {
            /** @description What it allows, in words. */
            description: string;
            /** @description The permission. */
            name: components["schemas"]["Permission"];
        };
        /** @description What a machine asks of its place. */
        Placement: {
            /** @description Not on the hosts of machines with these labels. */
            apart?: components["schemas"]["Affinity"][];
            host?: components["schemas"]["HostId"] | null;
            /** @description On the hosts of machines with these labels. */
            near?: components["schemas"]["Affinity"][];
        };
        /** @description Where a machine would be placed, with the word on every host. */
        PlacementDecision: {
            host?: components["schemas"]["HostId"] | null;
            /** @description Every host, the best first, those that do not fit last. */
            hosts: components["schemas"]["Verdict"][];
        };
        /** @description `POST /placement`: what if this machine were made, or moved. */
        PlacementQuery: {
            /** @description Its labels. */
            labels?: {
                [key: string]: string;
            };
            /** @description What would be wanted. */
            spec: components["schemas"]["VmSpec"];
            vm?: components["schemas"]["VmId"] | null;
        };
        /** @description A storage pool. */
        Pool: {
            /** @description It is being deleted: nothing new goes into it. */
            deleting?: boolean;
            /**
             * @description Files in it that belong to no object of the cluster: kept until they are adopted or deleted. Told of one pool at a time, by
             *     a host that reaches it.
             */
            foreign?: components["schemas"]["ForeignFile"][];
            /** @description Of a shared pool: how each host stands to it. A host that has not said anything yet is not here. */
            hosts?: components["schemas"]["PoolHost"][];
            /** @description Identity. */
            meta: components["schemas"]["Metadata_PoolId"];
            /** @description What it is. */
            spec: components["schemas"]["PoolSpec"];
            status?: components["schemas"]["PoolStatus"] | null;
        };
        /** @description How a host stands to a shared pool. */
        PoolHost: {
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /** @description Why it does not. */
            reason?: string | null;
            /**
             * Format: date-time
             * @description Since when.
             */
            since: string;
            /** @description Whether it reaches it. */
            state: components["schemas"]["PoolState"];
        };
        /**
         * Format: uuid
         * @description A storage pool.
         */
        PoolId: string;
        /** @description A pool's driver and place. */
        PoolSpec: {
            /** @enum {string} */
            driver: "dir";
            /** @description The host whose directory it is. */
            host: components["schemas"]["HostId"];
        } | (components["schemas"]["NfsSpec"] & {
            /** @enum {string} */
            driver: "nfs";
        });
        /**
         * @description Whether a host reaches a shared pool.
         * @enum {string}
         */
        PoolState: "mounting" | "ready" | "unreachable" | "unmounting";
        /** @description Room in a pool. */
        PoolStatus: {
            /** @description Bytes in all. */
            capacity_bytes: components["schemas"]["Bytes"];
            /** @description Bytes free for new data. */
            free_bytes: components["schemas"]["Bytes"];
        };
        /**
         * @description Wanted power state.
         * @enum {string}
         */
        PowerState: "stopped" | "running" | "paused";
        /** @description Why a request failed: what was wrong, where, and what to do. */
        Problem: {
            /** @description What was wrong this time and what to do. */
            detail: string;
            /** @description The fields at fault, all of them at once. */
            errors?: components["schemas"]["FieldError"][];
            /** @description Id of the request, to be found in the daemon's log. */
            request_id?: string | null;
            /**
             * Format: int32
             * @description The HTTP status.
             */
            status: number;
            /** @description Short text, the same for every problem of this kind. */
            title: string;
            /** @description Stable name of the kind of problem, e.g. `/problems/validation`; clients may rely on it. */
            type: string;
        };
        /** @description An identity provider. */
        Provider: {
            /** @description It has a secret, which is never told. */
            has_secret: boolean;
            /** @description Identity; the name is the realm. */
            meta: components["schemas"]["Metadata_ProviderId"];
            /** @description What is wanted. */
            spec: components["schemas"]["ProviderSpec"];
            /** @description How it does. */
            status: components["schemas"]["ProviderStatus"];
        };
        /**
         * Format: uuid
         * @description An identity provider.
         */
        ProviderId: string;
        /**
         * @description Where a provider is and how it is asked. TLS is verified with the certificates in `ca` (PEM) alone where there are such, else
         *     with those of public authorities.
         */
        ProviderSource: (components["schemas"]["LdapSource"] & {
            /** @enum {string} */
            kind: "ldap";
        }) | (components["schemas"]["OidcSource"] & {
            /** @enum {string} */
            kind: "oidc";
        });
        /** @description What is wanted of a provider. */
        ProviderSpec: {
            /** @description One can log in by it. Switched off, sessions and tokens of its users end. */
            enabled?: boolean;
            /** @description Which of its groups stand for which of the cluster. */
            groups?: components["schemas"]["GroupMapping"][];
            /**
             * Format: int32
             * @description A session ends this long after its login, however it is used, 1 to 720 hours.
             */
            session_hours?: number;
            /** @description Where it is and how it is asked. */
            source: components["schemas"]["ProviderSource"];
            /** @description What the login page calls it; its name where empty. */
            title?: string;
        };
        /** @description How a provider does. */
        ProviderStatus: {
            /**
             * Format: date-time
             * @description When it was last asked whether those with sessions and tokens are still there. Directories only.
             */
            checked_at?: string | null;
            /**
             * Format: date-time
             * @description Since when it cannot be asked; absent while it can.
             */
            failing_since?: string | null;
            /** @description Why it cannot. */
            failure?: string | null;
            /**
             * Format: int64
             * @description Users of it that the cluster knows.
             */
            users: number;
        };
        /** @description What came of a test. */
        ProviderTest: {
            /** @description Their groups there. */
            external_groups?: string[];
            /** @description What did not, and why. */
            failure?: string | null;
            /** @description Their name for people. */
            full_name?: string | null;
            /** @description The groups of the cluster they would be in. */
            groups?: components["schemas"]["GroupId"][];
            /** @description All that was asked for worked. */
            passed: boolean;
            /** @description What worked, in order. */
            steps: string[];
            /** @description Who was found: the name they would log in with. */
            username?: string | null;
        };
        /** @description What is lost while no majority of the voters is reached. */
        QuorumLoss: {
            /** @description What is not possible, in words. */
            means: string[];
            /** @description Hosts that do not answer this one. */
            missing: components["schemas"]["MissingHost"][];
            /** @description What can be done about it, in words. */
            remedy: string;
            /**
             * Format: date-time
             * @description Since when this host reaches no majority; absent where it has not noticed before.
             */
            since?: string | null;
        };
        /** @description A rate with a burst. */
        Rate: {
            /**
             * Format: int64
             * @description So many at once after a time without any; 0: as many as in a second. A single request that is larger passes, and
             *     what follows waits the longer.
             */
            burst?: number;
            /**
             * Format: int64
             * @description So many in a second, at least 1.
             */
            per_second: number;
        };
        /** @description A way to log in, as the login page shows it. `GET /session/realms`. */
        Realm: {
            /** @description How one logs in there. */
            kind: components["schemas"]["RealmKind"];
            /** @description The name. */
            name: string;
            /** @description What the page calls it. */
            title: string;
        };
        /**
         * @description How one logs in to a realm.
         * @enum {string}
         */
        RealmKind: "password" | "redirect";
        /** @description A move that is recommended. */
        Recommendation: {
            /**
             * Format: int64
             * @description What the move costs, in the same measure. The gain is greater by a margin at least.
             */
            cost: number;
            /** @description Where it is. */
            from: components["schemas"]["HostId"];
            /** @description Its name. */
            from_name: string;
            /**
             * Format: int64
             * @description What the cluster gains in balance, in thousandths: how much less the squares of the loads of all hosts are in sum.
             */
            gain: number;
            /** @description Bytes of memory that go over the network, at least. */
            memory_bytes: components["schemas"]["Bytes"];
            /** @description Why, in words. */
            reason: string;
            /** @description Where it would better be. */
            to: components["schemas"]["HostId"];
            /** @description Its name. */
            to_name: string;
            /** @description The machine. To follow the recommendation: `POST /vms/{id}/migrate` with the host. */
            vm: components["schemas"]["VmId"];
            /** @description Its name. */
            vm_name: string;
        };
        /** @description Codes for the day the authenticator is lost; each works once. Shown this once. */
        RecoveryCodes: {
            /** @description The codes. */
            codes: string[];
        };
        /** @description `POST /cluster/reform`. */
        ReformCluster: {
            /** @description Name of this host, from which the cluster is formed anew. */
            confirm: string;
            /** @description The hosts that are lost: every one that does not answer, and every one whose newer changes are given up. */
            lost: components["schemas"]["HostId"][];
        };
        /**
         * @description What becomes of a host when the cluster is formed anew without asking it.
         * @enum {string}
         */
        ReformFate: "follows" | "newer" | "silent" | "lost";
        /** @description A host, as seen before a cluster is formed anew. */
        ReformHost: {
            /** @description What would become of it. */
            fate: components["schemas"]["ReformFate"];
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /**
             * Format: date-time
             * @description When it was last heard; absent where it never was since the daemon of this host began.
             */
            last_heard?: string | null;
            /**
             * Format: int64
             * @description Where its log ends, where it answers.
             */
            last_index?: number | null;
            /** @description Names of the machines placed on it. They stay placed there and are not started elsewhere. */
            machines: string[];
            /** @description Its name. */
            name: string;
        };
        /** @description `GET /cluster/reform`: what forming the cluster anew from this host would mean. */
        ReformPreview: {
            /** @description Name of this host; given as `confirm` it confirms. */
            confirm: string;
            /**
             * Format: int64
             * @description The epoch that would begin.
             */
            epoch: number;
            /** @description The other hosts. */
            hosts: components["schemas"]["ReformHost"][];
            /**
             * Format: int64
             * @description Where the log of this host ends.
             */
            last_index: number;
            /** @description Why it cannot be done at all; empty where it can. */
            obstacles: string[];
        };
        /** @description `POST /session/refresh`. */
        Refresh: {
            /** @description The refresh token; the cookie `lq_refresh` where absent. */
            refresh_token?: string | null;
        };
        /** @description A host that is refused because it is of another epoch. */
        RefusedMember: {
            /**
             * Format: date-time
             * @description When it was last refused.
             */
            at: string;
            /**
             * Format: int64
             * @description Its epoch.
             */
            epoch: number;
        };
        /** @description A partition of a removable drive, or a drive without partitions. */
        RemovableDrive: {
            /** @description Kernel name, by which it is chosen: `sdb1`. */
            device: string;
            /** @description The file system on it, for people: `FAT`. */
            file_system?: string | null;
            /** @description Label of the file system. */
            label?: string | null;
            /** @description What the drive calls itself. */
            model?: string | null;
            /** @description Size of the partition. */
            size_bytes: components["schemas"]["Bytes"];
            /** @description Why nothing can be written to it; absent where it can. */
            unfit?: string | null;
        };
        /** @description `GET /hosts/{id}/removable`: what is plugged in. */
        RemovableDrives: {
            /** @description Partitions, and drives without any, by name. */
            drives: components["schemas"]["RemovableDrive"][];
        };
        /** @description `POST /session/totp/remove`: log in without a one-time code from now on. */
        RemoveTotp: {
            /** @description The present password. */
            password: string;
        };
        /** @description An object that gets another name. */
        Renaming: {
            /** @description Its name so far. */
            from: string;
            /**
             * Format: uuid
             * @description The object; its id stays.
             */
            id: string;
            /** @description Kind of the object. */
            kind: string;
            /** @description It was named by a person, so `rename` must allow it. */
            needs_consent: boolean;
            /** @description Its name in the cluster. */
            to: string;
        };
        /** @description `PUT /session/settings`. */
        ReplaceUserSettings: {
            /** @description All saved filters, at most 50. */
            filters: components["schemas"]["SavedFilter"][];
        };
        /**
         * @description What to do when a VM ends by itself.
         * @enum {string}
         */
        RestartPolicy: "never" | "on-failure" | "always";
        /** @description Answer to `POST /cluster/restore`. */
        Restored: {
            /** @description What was restored. */
            content: components["schemas"]["BackupContent"];
            /**
             * Format: int64
             * @description The epoch that begins.
             */
            epoch: number;
            /** @description The host this one is from now on. */
            host: components["schemas"]["HostId"];
            /** @description Names of the hosts that are lost until they join again. */
            lost: string[];
        };
        /** @description Permissions on a scope. */
        Right: {
            /** @description What is allowed there. */
            permissions: components["schemas"]["Permission"][];
            /** @description Where they hold. */
            scope: components["schemas"]["Scope"];
        };
        /** @description A set of permissions with a name. */
        Role: {
            /** @description It comes with the product and cannot be changed. */
            builtin?: boolean;
            /** @description Identity. */
            meta: components["schemas"]["Metadata_RoleId"];
            /** @description What it allows. */
            spec: components["schemas"]["RoleSpec"];
        };
        /**
         * Format: uuid
         * @description A role.
         */
        RoleId: string;
        /** @description What a role allows. */
        RoleSpec: {
            /** @description What it is for. */
            description?: string;
            /** @description What one may do with it. */
            permissions: components["schemas"]["Permission"][];
        };
        /** @description How a rule is set. `PUT /alert-rules/{id}`. */
        RuleSettings: {
            /**
             * Format: int32
             * @description Seconds it must not hold before the alert is resolved, at most 86400.
             */
            clear_seconds: number;
            /**
             * Format: double
             * @description From where on it is critical; never where absent.
             */
            critical?: number | null;
            /** @description It raises alerts. One that does not resolves those it has raised. */
            enabled: boolean;
            /**
             * Format: int32
             * @description Seconds it has to hold before an alert is raised, at most 86400.
             */
            hold_seconds: number;
            /**
             * Format: double
             * @description From where on it is a warning, in the rule's unit; never where absent.
             */
            warning?: number | null;
        };
        /**
         * @description What thresholds are measured in.
         * @enum {string}
         */
        RuleUnit: "percent-used" | "percent-free" | "days-left" | "seconds-off";
        /** @description A named search of a list. */
        SavedFilter: {
            /** @description The list: its path in the page, like `/vms`. */
            list: string;
            /** @description Its name, 1 to 60 characters, unique in its list. */
            name: string;
            /** @description What is searched for, as it is typed in the list; at most 1900 bytes. */
            query: string;
        };
        /** @description Where a role holds. */
        Scope: {
            /** @enum {string} */
            kind: "cluster";
        } | {
            /** @enum {string} */
            kind: "labels";
            /** @description At least one. */
            labels: {
                [key: string]: string;
            };
        } | {
            /**
             * Format: uuid
             * @description Its id.
             */
            id: string;
            /** @enum {string} */
            kind: "object";
            /** @description Its kind. */
            object: components["schemas"]["ObjectKind"];
        };
        /** @description A session. The token is sent as `Authorization: Bearer …` or, by browsers, as the cookie `lq_session`. */
        Session: {
            /**
             * Format: date-time
             * @description When the access token ends.
             */
            expires_at: string;
            /** @description Nothing is allowed before `POST /session/password`. */
            must_change_password?: boolean;
            /**
             * Format: date-time
             * @description When the session ends if it is not refreshed.
             */
            refresh_expires_at?: string | null;
            /**
             * @description Gets the next access token by `POST /session/refresh`, once. Absent in the answer to a refresh token that was used
             *     a moment ago by another request of the same client: the answer to that one has it.
             */
            refresh_token?: string | null;
            /** @description The access token. */
            token: string;
            /** @description Who. */
            username: string;
        };
        /**
         * Format: uuid
         * @description A session of a user.
         */
        SessionId: string;
        /** @description A session as its owner and administrators see it. */
        SessionInfo: {
            /**
             * Format: date-time
             * @description When they logged in.
             */
            created_at: string;
            /** @description It is the caller's own present one. */
            current: boolean;
            /**
             * Format: date-time
             * @description When it ends if it is not refreshed.
             */
            expires_at: string;
            /** @description Address they logged in from. */
            from: string;
            /** @description Identity. */
            id: components["schemas"]["SessionId"];
            /**
             * Format: date-time
             * @description When it was last refreshed.
             */
            refreshed_at: string;
            /** @description Whose. */
            user: components["schemas"]["UserId"];
            /** @description Their name. */
            username: string;
        };
        /** @description `PUT /hosts/{id}/bmc`. */
        SetBmc: {
            /** @description The password, at most 256 bytes, for IPMI 20. The one that was given before stays where it is absent and `spec` is as it was. */
            password?: string | null;
            /** @description All of what is wanted. */
            spec: components["schemas"]["BmcSpec"];
        };
        /** @description `POST /users/{id}/password`: someone else sets it. All sessions of the user end. */
        SetPassword: {
            /** @description They have to set a new one at their next login. */
            must_change_password?: boolean;
            /** @description 8 characters to 256 bytes. */
            password: string;
        };
        /** @description `GET /setup`: whether the first password is still to be set. */
        Setup: {
            /** @description There is no administrator yet: `POST /setup` makes the user `admin`. */
            needed: boolean;
        };
        /** @description `POST /setup`: makes the user `admin` with this password. Refused for ever once one was made. */
        SetupRequest: {
            /** @description The set-up code shown on the host's console: proof that the caller can see the machine. */
            code: string;
            /** @description 8 characters to 256 bytes. */
            password: string;
        };
        /**
         * @description How grave an alert is.
         * @enum {string}
         */
        Severity: "info" | "warning" | "critical";
        /** @description Nobody is notified of an alert for a while. */
        Silence: {
            /** @description Who asked for it. */
            by: string;
            /** @description What they said. */
            comment?: string;
            /**
             * Format: date-time
             * @description When it ends. If the alert is still there then, it is told.
             */
            until: string;
        };
        /** @description `POST /alerts/{id}/silence`. */
        SilenceAlert: {
            /** @description At most 500 characters. */
            comment?: string;
            /**
             * Format: int32
             * @description Minutes from now, at most 525600 (a year); 0 ends the silence, 480 (eight hours) where absent.
             */
            minutes?: number;
        };
        /**
         * @description How far back, and how finely.
         * @enum {string}
         */
        Span: "hour" | "day" | "week" | "month" | "year";
        /** @description A backup of the cluster's state on the answering host. */
        StateBackup: {
            content?: components["schemas"]["BackupContent"] | null;
            /**
             * Format: date-time
             * @description When it was made.
             */
            created_at: string;
            /** @description Why it cannot be read. */
            damaged?: string | null;
            /** @description Its name: the file without `.lqb`. */
            id: string;
            /** @description Why. */
            reason: components["schemas"]["BackupReason"];
            /**
             * Format: int64
             * @description Size of the file.
             */
            size_bytes: number;
        };
        /** @description Answer to `Stats`: counters since the start. */
        Stats: {
            /** @description Per disk. */
            disks: components["schemas"]["IoStats"][];
            /**
             * Format: int64
             * @description Exits from the guest to the monitor's user space, all virtual CPUs.
             */
            exits: number;
            /** @description Per interface. */
            nics: components["schemas"]["IoStats"][];
        };
        /** @description `POST /vms/{id}/stop`. */
        StopVm: {
            /** @description Do not ask the guest: end the machine at once. */
            force?: boolean;
            /**
             * Format: int32
             * @description Seconds the guest has after the power button before it is ended by force, 1 to 3600.
             */
            timeout_seconds?: number;
        };
        /** @description It is on the drive, which can be pulled out. */
        SupportBundleWritten: {
            /** @description Where. */
            device: string;
            /** @description Name of the file, at the top of the file system. */
            file: string;
            /** @description Its size. */
            size_bytes: components["schemas"]["Bytes"];
        };
        /** @description A long operation. */
        Task: {
            /** @description Who asked. */
            actor: string;
            /**
             * Format: date-time
             * @description When it was asked for.
             */
            created_at: string;
            /**
             * Format: date-time
             * @description When it ended.
             */
            ended_at?: string | null;
            /** @description Identity. */
            id: components["schemas"]["TaskId"];
            /** @description What is done, e.g. `vm.stop`. */
            kind: string;
            /** @description What it is doing, or why it failed. */
            message?: string | null;
            migration?: components["schemas"]["MigrationProgress"] | null;
            /**
             * Format: double
             * @description Share done, 0 to 1, where it can be told.
             */
            progress?: number | null;
            /** @description What became of each object, where the task is about several. */
            results?: components["schemas"]["TaskResult"][];
            /** @description Where it is. */
            state: components["schemas"]["TaskState"];
            /** @description The object it is done to: `kind/id`. */
            target: string;
            user?: components["schemas"]["UserId"] | null;
        };
        /**
         * Format: uuid
         * @description A long operation.
         */
        TaskId: string;
        /** @description What became of one object of a task. */
        TaskResult: {
            /** @description Whether it became what was wanted. */
            done: boolean;
            /** @description What was done, or why it was not. */
            message: string;
            /** @description Its name. */
            name: string;
            /** @description The object: `kind/id`. */
            target: string;
        };
        /**
         * @description Where a task is: `Running` → `Succeeded` | `Failed` | `Cancelled`.
         * @enum {string}
         */
        TaskState: "running" | "succeeded" | "failed" | "cancelled";
        /** @description `POST /hosts/{id}/bmc/test`: tries these settings without keeping them; without any, those that are kept. */
        TestBmc: {
            settings?: components["schemas"]["SetBmc"] | null;
        };
        /** @description `POST /identity-providers/{id}/test`. */
        TestProvider: {
            /** @description Their password, where it is to be tried too. */
            password?: string | null;
            /** @description Of a directory: who is to be found. */
            username?: string | null;
        };
        /** @description `GET /cluster/time`. */
        Time: {
            /** @description Every host. */
            hosts: components["schemas"]["HostTime"][];
            /** @description What is wanted. */
            spec: components["schemas"]["TimeSpec"];
        };
        /** @description What a server said. */
        TimeServer: {
            /** @description Its address. */
            address?: string | null;
            /** @description It is one of those that agree. */
            chosen: boolean;
            /**
             * Format: double
             * @description The way there and back, in milliseconds.
             */
            delay_ms?: number | null;
            /** @description Why it told no time when it was last asked. */
            fault?: string | null;
            /**
             * Format: double
             * @description How far the clock is behind it, in milliseconds.
             */
            offset_ms?: number | null;
            /** @description As it is set. */
            server: string;
            /**
             * Format: int32
             * @description How far it is from a reference clock.
             */
            stratum?: number | null;
        };
        /** @description What the clocks of all hosts follow: `PUT /cluster/time`. */
        TimeSpec: {
            /** @description NTP servers, by name or address; with a port where it is not 123. None: nothing sets the clocks. */
            servers?: string[];
        };
        /** @description How a host's clock does. */
        TimeStatus: {
            /**
             * Format: date-time
             * @description When they last agreed.
             */
            agreed_at?: string | null;
            /**
             * Format: double
             * @description How far the truth may be from that, in milliseconds.
             */
            error_ms?: number | null;
            /** @description Why it is not synchronised, or what is wrong. */
            note?: string | null;
            /**
             * Format: double
             * @description How far the clock was behind when they last agreed, in milliseconds; negative where it was ahead.
             */
            offset_ms?: number | null;
            /** @description The server that counts most. */
            server?: string | null;
            /** @description Every server. */
            servers?: components["schemas"]["TimeServer"][];
            /**
             * Format: date-time
             * @description When the clock was last set, instead of brought nearer.
             */
            stepped_at?: string | null;
            /**
             * Format: int32
             * @description How far the clock is from a reference clock: one more than that server.
             */
            stratum?: number | null;
            /** @description Servers agreed on the time a while ago, and the clock follows them. */
            synchronised: boolean;
        };
        /** @description An API token, without its secret. */
        Token: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            created_at: string;
            /**
             * Format: date-time
             * @description When it ends; never where absent.
             */
            expires_at?: string | null;
            /** @description Identity. */
            id: components["schemas"]["TokenId"];
            limit?: components["schemas"]["Grant"] | null;
            /** @description What it is for. */
            name: string;
            /** @description User it acts for: it may never do more than they may. */
            owner?: components["schemas"]["UserId"];
            /**
             * @description What its owner might do when someone else made it for them: it may do no more than this either, whatever its owner is
             *     granted later. Absent where its owner made it.
             */
            pinned?: components["schemas"]["Right"][] | null;
            /** @description It may only read. */
            read_only: boolean;
        };
        /**
         * Format: uuid
         * @description An API token.
         */
        TokenId: string;
        /** @description What is told of. */
        Told: Record<string, never> | components["schemas"]["Task"];
        /** @description Answer to `POST /session/totp`: a secret for an authenticator. It counts once a code made with it was confirmed. */
        TotpEnrolment: {
            /** @description The secret, base 32, to be typed. */
            secret: string;
            /** @description The same as `otpauth://totp/…`, to be shown as a QR code. */
            url: string;
        };
        /** @description `PUT /hosts/{id}/network`: try these settings. */
        TryNetwork: {
            /** @description The settings. */
            network: components["schemas"]["HostNetwork"];
            /**
             * Format: int32
             * @description Seconds until they are taken back unless confirmed, 10 to 600.
             */
            seconds?: number;
        };
        /**
         * @description In what something is measured.
         * @enum {string}
         */
        Unit: "share" | "processors" | "bytes" | "bytes-per-second" | "per-second";
        /** @description `PATCH /notification-channels/{id}`; what is absent stays. */
        UpdateChannel: {
            /** @description All labels anew. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description New name. */
            name?: string | null;
            /** @description A new secret; an empty one takes it away. Needed again where the channel is to speak to another server. */
            secret?: string | null;
            spec?: components["schemas"]["ChannelSpec"] | null;
        };
        /** @description `PATCH /groups/{id}`; what is absent stays. */
        UpdateGroup: {
            /** @description New labels, replacing the old ones. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description New name. */
            name?: string | null;
            spec?: components["schemas"]["GroupSpec"] | null;
        };
        /** @description Changes a network; what is absent stays. */
        UpdateNetwork: {
            /** @description New set of labels. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description New name. */
            name?: string | null;
            spec?: components["schemas"]["NetworkSpec"] | null;
        };
        /** @description `PATCH /identity-providers/{id}`; what is absent stays. The name stays for ever: it is part of its users' names. */
        UpdateProvider: {
            /** @description All labels anew. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description A new secret; an empty one takes it away. Needed again where another server is to be spoken to, or in another way. */
            secret?: string | null;
            spec?: components["schemas"]["ProviderSpec"] | null;
        };
        /** @description `PATCH /roles/{id}`; what is absent stays. */
        UpdateRole: {
            /** @description New labels, replacing the old ones. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description New name. */
            name?: string | null;
            spec?: components["schemas"]["RoleSpec"] | null;
        };
        /** @description `PATCH /users/{id}`; what is absent stays. */
        UpdateUser: {
            /** @description New labels, replacing the old ones. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description New name. */
            name?: string | null;
            spec?: components["schemas"]["UserSpec"] | null;
        };
        /** @description Changes a VM; what is absent stays. A machine that runs is changed where it can be; what waits is said in `status.pending`. */
        UpdateVm: {
            /** @description New set of labels. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description New name. */
            name?: string | null;
            spec?: components["schemas"]["VmSpec"] | null;
        };
        /** @description How much the hosts and machines the caller may see did. */
        Usage: {
            /** @description Sums over the hosts that were measured at a time. `cpu` is in processors. */
            history: components["schemas"]["MetricHistory"];
            /** @description Each host over the span. */
            hosts: components["schemas"]["HostUsage"][];
            /** @description Machines that did most: of each kind of load as many as were asked for, in no order. */
            machines: components["schemas"]["MachineUsage"][];
            /** @description Hosts that could not be asked: what they and their machines did is missing. */
            silent?: components["schemas"]["HostId"][];
        };
        /** @description Someone who logs in. */
        User: {
            /** @description Identity; the name is what they log in with. */
            meta: components["schemas"]["Metadata_UserId"];
            /** @description What is wanted. */
            spec: components["schemas"]["UserSpec"];
            /** @description What is so. */
            status: components["schemas"]["UserStatus"];
        };
        /**
         * Format: uuid
         * @description A user account.
         */
        UserId: string;
        /** @description `GET /session/settings`: what the caller keeps. */
        UserSettings: {
            /** @description Saved filters, in the order in which they are shown. */
            filters?: components["schemas"]["SavedFilter"][];
            /**
             * Format: int64
             * @description Grows with each change; given as `If-Match` it refuses to undo what was changed elsewhere. 0 before the first.
             */
            revision: number;
        };
        /**
         * @description Where a user's credentials are kept.
         * @enum {string}
         */
        UserSource: "local" | "ldap" | "oidc";
        /** @description The wanted user. */
        UserSpec: {
            /** @description They cannot log in, and their tokens and sessions count for nothing. */
            disabled?: boolean;
            /** @description Name for people, at most 255 characters. */
            full_name?: string;
            /** @description What they may do, beside what their groups grant. */
            grants?: components["schemas"]["Grant"][];
        };
        /** @description The observed user. */
        UserStatus: {
            /** @description The provider does not know them any more, or has disabled them: they cannot log in. */
            gone?: boolean;
            /** @description Groups they are in, by what the provider says too. */
            groups?: components["schemas"]["GroupId"][];
            /**
             * Format: date-time
             * @description When they last logged in.
             */
            last_login_at?: string | null;
            /** @description They have to set a new password at their next login. */
            must_change_password?: boolean;
            /**
             * Format: date-time
             * @description When the password was set; absent where there is none here.
             */
            password_set_at?: string | null;
            provider?: components["schemas"]["ProviderId"] | null;
            /**
             * Format: int32
             * @description Recovery codes not used yet.
             */
            recovery_codes?: number;
            /** @description Where their credentials are kept. */
            source?: components["schemas"]["UserSource"];
            /** @description They log in with a one-time code too. */
            totp?: boolean;
        };
        /** @description What was found of one host. */
        Verdict: {
            /** @description The host. */
            host: components["schemas"]["HostId"];
            /** @description Its name. */
            name: string;
            /** @description Why it does not fit; or what moved its score. */
            reasons: string[];
            /**
             * Format: int64
             * @description How well it fits; absent where it does not.
             */
            score?: number | null;
        };
        /** @description Whether guests can run. */
        Virtualization: {
            /** @description They can. */
            available: boolean;
            /** @description Why not, and what to do. */
            reason?: string | null;
        };
        /** @description A virtual machine. */
        Vm: {
            /** @description Identity. */
            meta: components["schemas"]["Metadata_VmId"];
            /** @description What is wanted. */
            spec: components["schemas"]["VmSpec"];
            /** @description What is. */
            status: components["schemas"]["VmStatus"];
        };
        /** @description How a machine is protected. A machine without this is not. */
        VmHa: {
            /** @description Which machines of a lost host come first. */
            priority?: components["schemas"]["HaPriority"];
        };
        /**
         * Format: uuid
         * @description A virtual machine.
         */
        VmId: string;
        /** @description The wanted virtual machine. */
        VmSpec: {
            /** @description Start the machine when its host starts, if it was running (or never started by hand) before. */
            autostart?: boolean;
            boot?: components["schemas"]["Boot"] | null;
            /** @description CD drives in the order the guest sees them, at most 4. Firmware boots from them where no disk can be booted. */
            cdroms?: components["schemas"]["Cdrom"][];
            cloud_init?: components["schemas"]["CloudInit"] | null;
            /**
             * @description What the guest sees of the host's processor. With a level the machine can move to every host that has it; a host that
             *     lacks a feature of it is refused.
             */
            cpu?: components["schemas"]["CpuModel"];
            /**
             * @description What disks and interfaces look like to the guest. Those of old machines only on QEMU, where disks and CD drives then share
             *     the board's controller: 6 places with `pc-q35-7.2`, 4 with `pc-i440fx-7.2`. It changes only while the machine is off.
             */
            device_model?: components["schemas"]["DeviceModel"];
            /** @description Disks in the order the guest sees them, at most 16. */
            disks?: components["schemas"]["Disk"][];
            /**
             * @description A screen, reached by RFB (VNC). Where absent: as the machine boots, by firmware with one, directly without. Only with
             *     firmware: a kernel booted directly has nothing to show on.
             */
            display?: boolean | null;
            /** @description What it boots by where it boots no kernel directly. A legacy BIOS only on QEMU. It changes only while the machine is off. */
            firmware?: components["schemas"]["FirmwareKind"];
            ha?: components["schemas"]["VmHa"] | null;
            /** @description What runs it. It changes only while the machine is off. Of a machine on QEMU some fields are refused: what it cannot do. */
            hypervisor?: components["schemas"]["Hypervisor"];
            machine?: components["schemas"]["MachineType"] | null;
            /** @description Memory, 64 MiB to 1 TiB, a multiple of 1 MiB; of 128 MiB where `memory_max_bytes` is given. */
            memory_bytes: components["schemas"]["Bytes"];
            memory_max_bytes?: components["schemas"]["Bytes"] | null;
            /** @description Network interfaces in the order the guest sees them, at most 8. */
            nics?: components["schemas"]["Nic"][];
            /**
             * @description Functions of its host's PCI bus that the machine has for itself, at most 8, in the order the guest sees them. Those of an
             *     IOMMU group are given together. `placement.host` says which host is meant: the machine stays there, is neither moved while it runs nor
             *     protected, and its memory is taken whole at its start. They come and go only while it is off.
             */
            passthrough?: components["schemas"]["Passthrough"][];
            /** @description What it asks of the host it is placed on. Looked at when the machine is made. */
            placement?: components["schemas"]["Placement"];
            /** @description Wanted power state. */
            power?: components["schemas"]["PowerState"];
            /** @description What to do when the machine ends without being told to. */
            restart?: components["schemas"]["RestartPolicy"];
            /** @description A virtio random number source. */
            rng?: boolean;
            /**
             * @description A TPM 2.0, which Windows 11 asks for and disks are encrypted by. What it keeps is made at the first start, lies where the
             *     firmware's variables lie, and goes with the machine; without it, what was sealed by it is lost. It comes and goes only while
             *     the machine is off. A machine with one is not moved while it runs.
             */
            tpm?: boolean;
            /**
             * Format: int32
             * @description Virtual CPUs, 1 to 64.
             */
            vcpus: number;
            /**
             * Format: int32
             * @description As many as `vcpus` can be while the machine runs, up to 64: those that come are there at once, those that go are released by
             *     the guest. Where absent, a change of `vcpus` waits for the next start. A change of this one always does.
             */
            vcpus_max?: number | null;
            watchdog?: components["schemas"]["WatchdogAction"] | null;
        };
        /**
         * @description Where a VM is in its life.
         *
         *     ```text
         *                start                ready            pause
         *      Stopped ────────▶ Starting ──────────▶ Running ───────▶ Paused
         *         ▲                 │  ▲               │   ▲             │
         *         │                 │  └──back-off─────┤   └───resume────┘
         *         │◀──── Stopping ◀─┼──────stop────────┤
         *         │                 ▼                  ▼
         *         └─────stop───── Failed ◀────────(monitor died, no restart allowed)
         *     ```
         * @enum {string}
         */
        VmState: "stopped" | "starting" | "running" | "paused" | "stopping" | "failed";
        /** @description The observed virtual machine. */
        VmStatus: {
            /** @description Addresses leased by the network's own DHCP, in the order of the interfaces. */
            addresses?: string[];
            host?: components["schemas"]["HostId"] | null;
            memory_bytes?: components["schemas"]["Bytes"] | null;
            moving_to?: components["schemas"]["HostId"] | null;
            /**
             * Format: int64
             * @description `meta.generation` this status answers to.
             */
            observed_generation?: number;
            /** @description What of the specification the machine that runs does not have yet. */
            pending?: components["schemas"]["PendingChange"][];
            /**
             * Format: int32
             * @description Process id of its monitor on the host.
             */
            pid?: number | null;
            /** @description Why it is in this state, where that needs words: a failure's reason, what it waits for. */
            reason?: string | null;
            /**
             * Format: int32
             * @description Restarts by policy since it was last started by a person.
             */
            restarts?: number;
            /**
             * Format: date-time
             * @description When its present run began.
             */
            started_at?: string | null;
            /** @description Where it is in its life. */
            state: components["schemas"]["VmState"];
        };
        /** @description A volume. */
        Volume: {
            /** @description Identity. */
            meta: components["schemas"]["Metadata_VolumeId"];
            /** @description What is wanted. */
            spec: components["schemas"]["VolumeSpec"];
            /** @description What is. */
            status: components["schemas"]["VolumeStatus"];
        };
        /**
         * Format: uuid
         * @description A disk of a virtual machine.
         */
        VolumeId: string;
        /** @description The wanted volume. */
        VolumeSpec: {
            /** @description Format on the pool. */
            format?: components["schemas"]["ImageFormat"];
            pool?: components["schemas"]["PoolId"] | null;
            size_bytes?: components["schemas"]["Bytes"] | null;
            source?: components["schemas"]["ImageId"] | null;
        };
        /**
         * @description Where a volume is in its life.
         * @enum {string}
         */
        VolumeState: "creating" | "ready" | "deleting" | "failed";
        /** @description The observed volume. */
        VolumeStatus: {
            attached_to?: components["schemas"]["VmId"] | null;
            /** @description Why it is in error. */
            reason?: string | null;
            /** @description Size the guest sees. */
            size_bytes?: components["schemas"]["Bytes"];
            /** @description Where it is in its life. */
            state: components["schemas"]["VolumeState"];
        };
        /** @description A host that waits, as found on the network. Nothing of it is proven before its code was. */
        WaitingHost: {
            /** @description Where it is asked: address and port. */
            address: string;
            /** @description The id it tells. */
            host: components["schemas"]["HostId"];
            /** @description The name it tells. */
            name: string;
            /** @description The release it tells. */
            version?: string | null;
        };
        /** @description `GET /cluster/waiting`. */
        WaitingHosts: {
            /** @description The hosts that answered, by name. */
            items: components["schemas"]["WaitingHost"][];
            /** @description The address of this host on whose network they were looked for; absent where it cannot look. */
            looked_from?: string | null;
        };
        /**
         * @description What a change of a machine that runs waits for.
         * @enum {string}
         */
        WaitsFor: "start" | "guest" | "host";
        /**
         * @description What becomes of a guest whose watchdog has run out. It is told as an event in any case.
         * @enum {string}
         */
        WatchdogAction: "reset" | "pause" | "power-off" | "report";
        /** @description `POST /hosts/{id}/support-bundle`: write the support bundle to a removable drive of the host. */
        WriteSupportBundle: {
            /** @description [`RemovableDrive::device`]. */
            device: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
