# The output of the scripts, which source this file; needs bash.
# shellcheck shell=bash

# say TEXT…: one line about what happens.
say() {
  printf '%s\n' "$*" >&2
}

# fail TEXT…: the reason and what to do about it, and the end.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# step TITLE COMMAND…: runs a command that takes long and shows its progress; shows its output only if it fails.
# Returns the command's status; its output stays in $STEP_LOG until the next step.
step() {
  local title=$1 started=$SECONDS status=0
  shift
  : >"$STEP_LOG"
  "$@" >"$STEP_LOG" 2>&1 </dev/null &
  STEP_PID=$!
  _show_progress "$title" "$started"
  wait "$STEP_PID" || status=$?
  STEP_PID=
  if [ "$status" -eq 0 ]; then
    _line "✓ $title ($((SECONDS - started)) s)"
  else
    _line "✗ $title"
    tail -n 15 "$STEP_LOG" | sed 's/^/  | /' >&2
  fi
  return "$status"
}

# On a terminal the line is rewritten with the last line of output; in a log there is a new one every 15 seconds.
_show_progress() {
  local title=$1 started=$2 doing
  [ -t 2 ] || printf '… %s\n' "$title" >&2
  while kill -0 "$STEP_PID" 2>/dev/null; do
    if [ -t 2 ]; then
      doing=$(tail -n 1 "$STEP_LOG" | tr -cd '[:print:]' | cut -c 1-50)
      printf '\r\033[K… %s (%s s) %s' "$title" "$((SECONDS - started))" "$doing" >&2
    elif [ $((SECONDS - started)) -gt 0 ] && [ $(((SECONDS - started) % 15)) -eq 0 ]; then
      printf '… %s (%s s)\n' "$title" "$((SECONDS - started))" >&2
      sleep 0.8
    fi
    sleep 0.2
  done
}

_line() {
  [ -t 2 ] && printf '\r\033[K' >&2
  printf '%s\n' "$1" >&2
}

# Ctrl-C ends the running step too: the shell starts what is in the background deaf to it.
_end_step() {
  [ -z "${STEP_PID:-}" ] || kill "$STEP_PID" 2>/dev/null || true
  rm -f "$STEP_LOG"
}

STEP_LOG=$(mktemp)
STEP_PID=
trap _end_step EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
