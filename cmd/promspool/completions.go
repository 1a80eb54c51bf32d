package main

import "github.com/alecthomas/kingpin/v2"

// addCompletions makes --completion-script-bash and --completion-script-zsh
// print scripts that know the commands. Those of kingpin ask the program alone,
// which takes every first word for one to its default command.
func addCompletions() {
	kingpin.BashCompletionTemplate = bashCompletion
	kingpin.ZshCompletionTemplate = zshCompletion
}

const completedCommands = `{{range .App.Commands}}{{if not .Hidden}}{{.Name}} {{end}}{{end}}`

const bashCompletion = `# What bash completes for promspool.
_promspool() {
    local cur=${COMP_WORDS[COMP_CWORD]} words
    words=$("${COMP_WORDS[0]}" --completion-bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ $COMP_CWORD == 1 && $cur != -* ]]; then
        words+=" ` + completedCommands + `"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _promspool -o default promspool
`

const zshCompletion = `#compdef promspool
# What zsh completes for promspool.
_promspool() {
    local -a matches
    matches=(${(f)"$(${words[1]} --completion-bash "${(@)words[2,$CURRENT]}" 2>/dev/null)"})
    if [[ $CURRENT == 2 && $words[2] != -* ]]; then
        matches+=(` + completedCommands + `)
    fi
    compadd -a matches
    if [[ $compstate[nmatches] -eq 0 && $words[$CURRENT] != -* ]]; then
        _files
    fi
}
if [[ $funcstack[1] == _promspool ]]; then
    _promspool "$@"
else
    compdef _promspool promspool
fi
`
