/** Formats numbers and times, and reads the progress texts of servers. */

const numbers = new Intl.NumberFormat("en");
const times = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/**
 * Formats a count with separators.
 *
 * @param {number} count
 * @returns {string}
 */
export function formatCount(count) {
  return numbers.format(count);
}

/**
 * Formats a count and the word that follows it.
 *
 * @param {number} count
 * @param {string} one
 * @param {string} many
 * @returns {string}
 */
export function counted(count, one, many) {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/**
 * Formats a size in bytes in the largest decimal unit that fits.
 *
 * @param {number} bytes
 * @returns {string}
 */
export function formatBytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let index = 0;
  let value = bytes;
  while (value >= 1000 && index < units.length - 1) {
    value /= 1000;
    index += 1;
  }
  return `${index === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[index]}`;
}

/**
 * Formats a price in US dollars: parts of a cent as well, because a small export costs less.
 *
 * @param {number} usd
 * @returns {string}
 */
export function formatUsd(usd) {
  return `${usd.toFixed(usd < 1 ? 6 : 2)} USD`;
}

/**
 * Formats an instant in local time. Other texts are returned as they are.
 *
 * @param {string} instant
 * @returns {string}
 */
export function formatTime(instant) {
  const date = new Date(instant);
  return Number.isNaN(date.getTime()) ? instant : times.format(date);
}

/**
 * Formats a number of seconds, rounded as an estimate is.
 *
 * @param {number} seconds
 * @returns {string}
 */
export function formatSeconds(seconds) {
  if (seconds < 60) return `${Math.max(5, Math.ceil(seconds / 5) * 5)} s`;
  if (seconds < 7200) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.ceil(seconds / 3600)} h`;
}

/**
 * Returns the percentage in a progress text such as `45 % done`, or `null`.
 *
 * @param {string} text
 * @returns {?number}
 */
export function readPercent(text) {
  const found = /(\d+)(?:\.\d+)?\s*%/.exec(text);
  return found ? Math.min(100, Number(found[1])) : null;
}

/**
 * Returns the number of resources in a progress text, or `null`.
 *
 * @param {string} text
 * @returns {?number}
 */
export function readResources(text) {
  const found = /(\d+) resource/.exec(text);
  return found ? Number(found[1]) : null;
}

/** The rate of an export and the time left, from its progress texts. */
export class Pace {
  #first = null;
  #last = null;

  /**
   * Records a progress text.
   *
   * @param {string} text
   * @param {number} now time in milliseconds
   */
  observe(text, now) {
    const sample = { now, percent: readPercent(text) ?? 0, resources: readResources(text) };
    const last = this.#last;
    const isBegin = this.#first === null || (this.#first.resources === null && sample.resources !== null);
    const isRestarted = last !== null && (last.percent > sample.percent || (last.resources ?? 0) > (sample.resources ?? 0));
    if (isBegin || isRestarted) this.#first = sample;
    this.#last = sample;
  }

  /**
   * Describes the rate and the time left, as far as they are known.
   *
   * @returns {string}
   */
  describe() {
    const [first, last] = [this.#first, this.#last];
    if (first === null || last.now - first.now < 2000) return "";
    const seconds = (last.now - first.now) / 1000;
    const parts = [];
    const rate = Math.floor(((last.resources ?? 0) - (first.resources ?? 0)) / seconds);
    if (first.resources !== null && rate > 0) parts.push(`${formatCount(rate)} resources/s`);
    const done = last.percent - first.percent;
    if (done > 0) parts.push(`about ${formatSeconds((seconds / done) * (100 - last.percent))} left`);
    return parts.join(", ");
  }
}
