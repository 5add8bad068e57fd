/** Shortest password, in characters. */
export const MIN_PASSWORD = 8;
