// Numbers as text. What is not there yet, or says nothing, is a dash.
type Amount = number | null | undefined;

const written = (options: Intl.NumberFormatOptions, scale = 1) => {
  const format = new Intl.NumberFormat("en-US", options);
  return (amount: Amount) => (amount == null ? "–" : format.format(amount * scale));
};

export const whole = written({ maximumFractionDigits: 0 });
export const percent = written({ style: "percent", maximumFractionDigits: 1 });
export const seconds = written({ style: "unit", unit: "second", maximumFractionDigits: 2 }, 1 / 1000);
export const money = written({ style: "currency", currency: "USD", maximumFractionDigits: 4 });
export const clock = (ms: number) => new Date(ms).toLocaleTimeString("en-GB");
