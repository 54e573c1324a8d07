/** The keys in a QR code. The simulator does not check them. */

export const noiseKey = new Uint8Array(32).fill(1);
export const identityKey = new Uint8Array(32).fill(2);
export const advSecret = encode(new Uint8Array(32).fill(3));
/** WhatsApp's number for a browser. */
export const PLATFORM = '1';

export function encode(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

/** The text of a QR code: five fields, as on WhatsApp's own page. */
export function codeText(ref) {
  return [ref, encode(noiseKey), encode(identityKey), advSecret, PLATFORM].join(',');
}
